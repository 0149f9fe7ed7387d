"""The texts in a program."""

import re

# A section with texts only.
TEXTS = re.compile(r'\t\.section\t\.rodata\.(?:\.Lanon[\w.]+,"a"|str1\.1,"aMS"),@progbits')


def pack_texts(lines):
    """Stores texts that are parts of others, or begin as others end, only once."""
    texts, rest = {}, []
    in_texts = False
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(("\t.section\t", "\t.text", "\t.data", "\t.bss")):
            in_texts = TEXTS.match(line)
        elif line.startswith("\t.p2align\t"):
            in_texts = False
        elif in_texts and line.endswith(":"):
            end = at + 1
            while lines[end].startswith(("\t.ascii\t", "\t.asciz\t")):
                end += 1
            if end > at + 1 and lines[end].startswith("\t.size\t"):
                texts[line[:-1]] = b"".join(bytes_of(text) for text in lines[at + 1 : end])
                at = end + 1
                continue
        rest.append(line)
        at += 1
    packed = pack(sorted(set(texts.values()), key=lambda text: (-len(text), text)))
    rest += ['\t.section\t.rodata.texts,"a",@progbits', ".Ltexts:"]
    rest += [f"\t.byte\t{','.join(map(str, packed[at : at + 64]))}" for at in range(0, len(packed), 64)]
    rest += [f"\t.set\t{name}, .Ltexts+{packed.index(text)}" for name, text in texts.items()]
    return rest


def bytes_of(line):
    """The bytes of an .ascii or .asciz directive."""
    text = line.split("\t", 2)[2][1:-1].encode("latin-1").decode("unicode_escape").encode("latin-1")
    return text + b"\0" if line.startswith("\t.asciz") else text


def pack(texts):
    """One text with all of these, the longest first, in it."""
    packed = b""
    for text in texts:
        if text not in packed:
            overlap = next((n for n in range(len(text) - 1, 0, -1) if packed.endswith(text[:n])), 0)
            packed += text[overlap:]
    return packed
