#!/usr/bin/env python3
"""Links a program for MIPS whose code is mostly MIPS16e: a linker for rustc.

    mips16.py ARGUMENT-OF-LLD...

Instructions of MIPS16e take two bytes, those of MIPS32 four. LLVM generates both, function by
function, but rustc cannot say which, and LLVM can neither assemble nor link MIPS16e. So rust-lld
optimises the program and leaves it as LLVM's code. This script marks the functions for MIPS16e,
LLVM's llc makes assembly language of them, and the binutils of GNU make the program of that.

MIPS16e has no atomic operations and cannot reach thread-local variables. They become calls of
small MIPS32 functions, one for each kind of operation and each variable. Functions that are not
optimised for size, but for speed, remain MIPS32 code.

Environment: LLVM, the folder of Rust's rust-lld, llvm-dis and llc; BINUTILS, what the names of the
binutils begin with; LLC_OPTIONS, options for llc, separated by spaces.
"""

import os
import re
import subprocess
import sys
import tempfile

ORDER = "(?:unordered|monotonic|acquire|release|acq_rel|seq_cst)"
# What MIPS16e has no instructions for, and the operands of each, with their types.
FOREIGN = [
    (rf"load atomic (?P<returns>\w+), (?P<x>ptr .+) (?={ORDER})", "load atomic {returns}, {x} "),
    (rf"store atomic (?P<x>\w+ [^ ,]+), (?P<y>ptr .+) (?={ORDER})", "store atomic {x}, {y} "),
    (rf"(?P<op>atomicrmw \w+) (?P<x>ptr .+), (?P<y>(?P<returns>\w+) [^ ,]+) (?={ORDER})", "{op} {x}, {y} "),
    (
        rf"(?P<op>cmpxchg(?: weak)?) (?P<x>ptr .+), (?P<y>(?P<type>\w+) [^ ,]+), (?P<z>\w+ [^ ,]+) (?={ORDER})",
        "{op} {x}, {y}, {z} ",
    ),
    (rf"fence (?={ORDER})", "fence "),
    (
        r"(?:tail )?call (?P<op>(?P<returns>i\d+) @llvm\.c[tl][tl]z\.i\d+)\((?P<x>i\d+ [^ ,]+)(?=, i1)",
        "call {op}({x}",
    ),
]
FOREIGN = [(re.compile(rf"( +(?:%\S+ = )?){start}([^!]*?)(?:, !.*)?$"), code) for start, code in FOREIGN]
THREAD_LOCAL = re.compile(
    r"( +%\S+ = )(?:tail )?call (?:\w+ )*?(?:align \d+ )?ptr @llvm\.threadlocal\.address\.p0\(ptr (@[^)]+)\)"
)
# Nearly all lines have none of these words; the search is quicker than the patterns.
MAYBE_FOREIGN = re.compile(r"atomic|cmpxchg|fence|threadlocal|llvm\.c[tl][tl]z")
# What llc cannot generate as MIPS16e.
ASSEMBLER = re.compile(r' asm (?:sideeffect )?(?:alignstack )?"[^"]')


class Helpers:
    """The MIPS32 functions that MIPS16e code calls: their definitions by name."""

    def __init__(self):
        self.names = {}

    def call(self, result, body, parameters, arguments, returns):
        """The line that calls the function with this body."""
        definition = f"({', '.join(parameters)}) noinline minsize nounwind \"nomips16\" {{\n{body}\n}}"
        name = self.names.setdefault((returns, definition), f"mips32.{len(self.names)}")
        return f"{result}call {returns} @{name}({', '.join(arguments)})"

    def definitions(self):
        for (returns, definition), name in self.names.items():
            yield f"define internal {returns} @{name}{definition}"


def outline(line, helpers):
    """Replaces an instruction that MIPS16e lacks by a call."""
    if not MAYBE_FOREIGN.search(line):
        return line
    found = THREAD_LOCAL.match(line)
    if found:
        result, variable = found.groups()
        body = f"  %r = call ptr @llvm.threadlocal.address.p0(ptr {variable})\n  ret ptr %r"
        return helpers.call(result, body, [], [], "ptr")
    if "@llvm.c" in line:
        line = re.sub(r"\b(?:noundef |range\([^)]*\) )", "", line)
    for pattern, code in FOREIGN:
        found = pattern.match(line)
        if not found:
            continue
        parts = found.groupdict()
        returns = parts.get("returns") or (f"{{ {parts['type']}, i1 }}" if "type" in parts else "void")
        arguments = [parts[name] for name in "xyz" if name in parts]
        parameters = [f"{a.split(' ', 1)[0]} %{name}" for name, a in zip("xyz", arguments)]
        instruction = code.format(op=parts.get("op"), returns=returns, **{p[-1]: p for p in parameters})
        instruction += found.groups()[-1]
        body = f"  {instruction}\n  ret void" if returns == "void" else f"  %r = {instruction}\n  ret {returns} %r"
        return helpers.call(found.group(1), body, parameters, arguments, returns)
    return line


def mark(source):
    """Chooses the instructions for each function of a program in LLVM's assembly language."""
    lines = source.split("\n")
    small = set(re.findall(r"^attributes (#\d+) = \{.*\bminsize\b", source, re.MULTILINE))
    helpers = Helpers()
    marked = []
    at = 0
    while at < len(lines):
        if not lines[at].startswith("define "):
            marked.append(lines[at])
            at += 1
            continue
        end = lines.index("}", at)
        group = re.search(r"\).* (#\d+)\b", lines[at])
        if not group:
            sys.exit(f"mips16: a function without attributes: {lines[at]}")
        body = lines[at + 1 : end]
        if group[1] in small and not any(ASSEMBLER.search(line) for line in body):
            attributes = '"mips16"'
            body = [outline(line, helpers) for line in body]
        else:
            # The instruction of a tail call cannot change to MIPS16e, that of a call can.
            attributes = '"nomips16" "disable-tail-calls"="true"'
        head = lines[at]
        marked.append(f"{head[: group.start(1)]}{attributes} {head[group.start(1) :]}")
        marked += body
        marked.append("}")
        at = end + 1
    return "\n".join([*marked, *helpers.definitions(), ""])


HIGH = re.compile(r"li (\$\d+), %hi\((\S+)\)")
SHIFT = re.compile(r"sll (\$\d+), (\$\d+), 16")
LOW = re.compile(r"addiu (\$\d+), %lo\((\S+)\)")
# How llc loads a large number: the word stands in the way, and the code jumps over it.
LITERAL = re.compile(r"lw (\$\d+), 1f\nb 2f\n\.align 2\n1: \.word (-?\d+)\n2:$")
# Instructions that set their first operand from the others alone. (With two operands, addiu reads both.)
SETS = re.compile(r"(?:li|lw|lbu?|lhu?|move) (\$\d+), (.*)|(?:mflo|mfhi) (\$\d+)|(?:sll|srl|sra|addu|subu|addiu) (\$\d+), (\$\w+, .*)")


def shorten(source):
    """Makes the MIPS16e code of a program in assembly language shorter."""
    kept = []
    lines = source.split("\n")
    at = 0
    while at < len(lines):
        kept.append(lines[at])
        at += 1
        if lines[at - 1].strip() == ".set\tmips16":
            end = next(i for i in range(at, len(lines)) if lines[i].startswith("\t.end\t"))
            kept += shorten_function(lines[at:end])
            at = end
    return "\n".join(kept)


def shorten_function(lines):
    """Removes what the assembler does itself, and loads addresses from words behind the function.

    An address takes three instructions, in 10 or 12 bytes; a load takes 2 or 4, and the word 4.
    """
    code = [line for line in (" ".join(line.split("#", 1)[0].split()) for line in lines) if line]
    kept = []
    words = {}

    def word_of(value):
        return words.setdefault(value, f"9{len(words)}") + "f"

    at = 0
    while at < len(code):
        high, shift, low = (p.fullmatch(c) for p, c in zip((HIGH, SHIFT, LOW), [*code[at : at + 3], "", ""]))
        if code[at] == "nop" and at > 0 and code[at - 1].startswith("jal "):
            at += 1  # The assembler puts an instruction behind each call, a useful one if it can.
        elif (
            high and shift and low
            and high[1] == shift[2] and shift[1] == low[1] and high[2] == low[2]
            and (high[1] == low[1] or is_unused(high[1], code[at + 3 :]))
        ):  # fmt: skip
            kept.append(f"lw {low[1]}, {word_of(low[2])}")
            at += 3
        elif literal := LITERAL.match("\n".join(code[at : at + 5])):
            kept.append(f"lw {literal[1]}, {word_of(literal[2])}")
            at += 5
        else:
            kept.append(code[at])
            at += 1
    if words:
        kept.append(".p2align 2")
        kept += [f"{word}: .word {value}" for value, word in words.items()]
    return kept


def is_unused(register, code):
    """Whether the code certainly sets a register before anything reads it."""
    for instruction in code:
        sets = SETS.fullmatch(instruction)
        if sets and register in sets.group(1, 3, 4):
            return not mentions(f"{sets[2]} {sets[5]}", register)
        if mentions(instruction, register):
            return False
        if instruction.startswith(("jal ", "jalrc ", "jalr ")):
            # A call may read $4 to $7 and changes $2 and $3.
            return register in ("$2", "$3")
        if instruction.startswith(("b", "j", "$", ".")) or ":" in instruction:
            return False
    return False


def mentions(text, register):
    return re.search(rf"{re.escape(register)}\b", text) is not None


def main():
    arguments = sys.argv[1:]
    llvm, binutils = os.environ["LLVM"], os.environ["BINUTILS"]

    def run(*command):
        status = subprocess.call(command)
        if status:
            sys.exit(f"mips16: {command[0]} ended with {status}")

    with tempfile.TemporaryDirectory() as folder:
        bitcode, source, assembly, code = (f"{folder}/program.{kind}" for kind in ("bc", "ll", "s", "o"))
        run(f"{llvm}/rust-lld", *arguments, "--lto-emit-llvm", "-o", bitcode)
        run(f"{llvm}/llvm-dis", bitcode, "-o", source)
        rewrite(source, mark)
        options = ["-O2", "-relocation-model=static", "-function-sections", "-data-sections"]
        run(f"{llvm}/llc", *options, *os.environ["LLC_OPTIONS"].split(), source, "-o", assembly)
        rewrite(assembly, shorten)
        run(f"{binutils}as", "-mips32r2", "-msoft-float", assembly, "-o", code)
        rest = [argument for argument in arguments if not is_for_lld(argument)]
        # lld looks into all libraries for each symbol, in any order; in a group, ld does so too.
        run(f"{binutils}ld", code, "--start-group", *rest, "--end-group")


def rewrite(path, change):
    """Changes a text that LLVM wrote; its names may have any bytes."""
    with open(path, encoding="latin-1") as file:
        text = change(file.read())
    with open(path, "w", encoding="latin-1") as file:
        file.write(text)


def is_for_lld(argument):
    """Whether an argument is an option of lld alone, or a file of LLVM's code."""
    if argument in ("-flavor", "gnu") or argument.startswith(("-plugin-opt", "--icf")):
        return True
    if not argument.endswith(".o"):
        return False
    with open(argument, "rb") as file:
        return file.read(4) == b"BC\xc0\xde"


if __name__ == "__main__":
    main()
