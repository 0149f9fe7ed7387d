"""The linker for x86_64 (contrib/outline): a program in assembly language, as llc writes it, is linked as it is and by
link.py. Both print the same, and what was to become shorter is.

LLVM's part is played by two scripts, so this needs no more than the binutils: `llc` hands out the program, and
`rust-lld` is ld.
"""

import os
import re
import subprocess
import sys
import tempfile

LINK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "outline", "link.py")
# How many functions of each kind there are.
COPIES = 6
TEXTS = ["a text that others are parts of\\n", "others", "parts of\\n", "of\\nwhat follows\\n"]

START, END = "pushq %rbp|movq %rsp, %rbp|pushq %rbx|pushq %rax|", "|addq $8, %rsp|popq %rbx|popq %rbp|retq"
# What repeats has a number of its own in it. `?` is different in each copy.
REPEATED = {
    # It returns.
    "tail": ("imull $?, %edi, %eax|xorl $0x11111, %eax|roll $3, %eax|addl $0x1234567, %eax|retq", 0x11111),
    # It jumps to a function.
    "jump": ("imull $?, %edi, %edi|xorl $0x11112, %edi|roll $9, %edi|jmp mix", 0x11112),
    # It is in each function twice: the second jump goes to the first one.
    "twice": ("cmpl $?, %edi|je .LBB?_1|imull $?, %edi, %eax|xorl $0x11113, %eax|roll $11, %eax|retq|.LBB?_1:|"
              "leal ?(%rdi), %eax|xorl $0x11113, %eax|roll $11, %eax|retq", 0x11113),
    # It ends with a call.
    "last": (START + "addl $?, %edi|xorl $0x22222, %edi|roll $5, %edi|callq mix|addl $?, %eax" + END, 0x22222),
    # It calls nothing.
    "leaf": (START + "addl $?, %edi|xorl $0x33333, %edi|imull $77, %edi, %eax|roll $7, %eax|addl $?, %eax" + END, 0x33333),
    # It calls, and has a flag from before and one for what follows.
    "inner": (START + "cmpl $?, %edi|sete %bl|callq mix|xorl $0x44444, %eax|movl %eax, %edi|callq mix|movzbl %bl, %ecx|"
              "addl %ecx, %eax|testl $1, %eax|jne .LBB?_1|addl $?, %eax|.LBB?_1:" + END, 0x44444),
    # It is the start of functions.
    "entry": ("pushq %rbp|movq %rsp, %rbp|pushq %r15|pushq %r14|pushq %rbx|subq $24, %rsp|movl $0x55555, %r14d|"
              "leal ?(%rdi,%r14), %eax|addq $24, %rsp|popq %rbx|popq %r14|popq %r15|popq %rbp|retq", 0x55555),
}
# What repeats and has to stay where it is: it would find the wrong stack, or change what is in %r11.
KEPT = {
    "stack": ("subq $24, %rsp|leal ?(%rdi), %r11d|movl %edi, 12(%rsp)|xorl $0x66666, 12(%rsp)|roll $5, 12(%rsp)|"
              "addl $?, %r11d|movl 12(%rsp), %eax|addl %r11d, %eax|addq $24, %rsp|retq", 0x66666),
    "pushes": ("leal ?(%rdi), %eax|pushq %r12|pushq %r13|pushq %r14|pushq %r15|xorl $0x77777, %eax|addl $?, %eax|"
               "popq %r15|popq %r14|popq %r13|popq %r12|retq", 0x77777),
}
OTHERS = {
    # Variables near the frame pointer, far from it, and near the stack pointer.
    "frame": "pushq %rbp|movq %rsp, %rbp|pushq %rbx|subq $280, %rsp|movl %edi, -16(%rbp)|movl $11, -140(%rbp)|"
             "movl $13, -288(%rbp)|leaq -200(%rbp), %rbx|movl $1, %ecx|movl $17, (%rbx,%rcx,4)|"
             "imull $19, -88(%rbx), %edx|movl %edx, -88(%rbx)|movl -16(%rbp), %eax|"
             "imull -140(%rbp), %eax|imull -288(%rbp), %eax|imull -200(%rbp,%rcx,4), %eax|addq $280, %rsp|popq %rbx|"
             "popq %rbp|retq",
    # The frame pointer is a number here.
    "number": "pushq %rbp|movq %rsp, %rbp|subq $48, %rsp|movq %rbp, %rax|subq %rsp, %rax|addq $48, %rsp|popq %rbp|retq",
    # The stack is aligned for it.
    "mix": "pushq %rbp|movq %rsp, %rbp|subq $16, %rsp|movd %edi, %xmm0|movaps %xmm0, -16(%rbp)|movl -16(%rbp), %eax|"
           "imull $31, %eax, %eax|addl $7, %eax|addq $16, %rsp|popq %rbp|retq",
    "same1": "leal 5(%rdi,%rdi,4), %eax|testl %eax, %eax|js .LBB91_1|notl %eax|.LBB91_1:|retq",
    "same2": "leal 5(%rdi,%rdi,4), %eax|testl %eax, %eax|js .LBB92_1|notl %eax|.LBB92_1:|retq",
    "first": "subl $99, %edi|jmp second",
    "second": "bswapl %edi|movl %edi, %eax|retq",
    "hex": "pushq %rbp|movq %rsp, %rbp|pushq %r12|pushq %rbx|movl %edi, %ebx|movl $8, %r12d|.LBB90_1:|roll $4, %ebx|"
           "movl %ebx, %edi|andl $15, %edi|addl $48, %edi|callq out|decl %r12d|jne .LBB90_1|movl $10, %edi|callq out|"
           "popq %rbx|popq %r12|popq %rbp|retq",
    "out": "pushq %rdi|movq %rsp, %rdi|movl $1, %esi|callq put|popq %rdi|retq",
    "put": "movq %rsi, %rdx|movq %rdi, %rsi|movl $1, %edi|movl $1, %eax|syscall|retq",
}


def function(name, code, is_fast=False):
    lines = [line if line.endswith(":") else "\t" + line.replace(" ", "\t", 1) for line in code.split("|")]
    head = [f'\t.section\t.text.{name},"ax",@progbits', *(["\t.p2align\t4"] if is_fast else [])]
    end = f".Lfunc_end_{name}"
    return [*head, f"\t.type\t{name},@function", f"{name}:", *lines, f"{end}:", f"\t.size\t{name}, {end}-{name}"]


def program():
    """The program: it calls every function, and prints every text."""
    code, start = ["\t.globl\t_start"], []
    functions = dict(OTHERS)
    for kind, (body, _) in (REPEATED | KEPT).items():
        for copy in range(COPIES):
            functions[f"{kind}{copy}"] = body.replace(".LBB?", f".LBB{kind}{copy}").replace("?", str(20 + copy))
    for name, body in functions.items():
        code += function(name, body)
        if name not in ("hex", "out", "put"):
            start += ["movl $22, %edi", f"callq {name}", "movl %eax, %edi", "callq hex"]
    code += function("fast", REPEATED["tail"][0].replace("?", "20"), is_fast=True)
    start += ["movl $22, %edi", "callq *fast@GOTPCREL(%rip)", "movl %eax, %edi", "callq hex"]
    for number, text in enumerate(TEXTS):
        label = f".Lanon.texts.{number}"
        code += [f'\t.section\t.rodata.{label},"a",@progbits', f"{label}:", f'\t.ascii\t"{text}"']
        length = len(text.replace("\\n", "\n"))
        code.append(f"\t.size\t{label}, {length}")
        start += [f"leaq {label}(%rip), %rdi", f"movl ${length}, %esi", "callq put"]
    start += ["movl $60, %eax", "xorl %edi, %edi", "syscall"]
    return "\n".join([*code, *function("_start", "|".join(start)), ""])


class Program:
    """A program that was linked: what it prints, its bytes, and where its functions are."""

    def __init__(self, path):
        self.said = subprocess.run([path], capture_output=True, timeout=60, check=True).stdout
        with open(path, "rb") as file:
            self.bytes = file.read()
        listed = subprocess.run(["nm", "-S", path], capture_output=True, text=True, check=True).stdout
        self.places = {row[-1]: int(row[0], 16) for row in map(str.split, listed.splitlines())}
        said = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
        self.code = {part[1]: [line.split("\t", 1)[1].strip() for line in part[2].splitlines() if "\t" in line]
                     for part in re.finditer(r"<(\S+)>:\n((?:.+\n)*)", said)}

    def count(self, number):
        return sum(f"$0x{number:x}," in line for code in self.code.values() for line in code)


def link(folder, source):
    """Links a program with link.py; returns how that ended, and the path of the program."""
    write(f"{folder}/program.s", source)
    write(f"{folder}/llc", f'#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\ncp {folder}/program.s "$1"\n')
    write(f"{folder}/rust-lld", '#!/bin/sh\ncase "$*" in *--lto-emit-llvm*) exit 0 ;; esac\nexec ld "$@"\n')
    with open(f"{folder}/program.o", "wb") as file:
        file.write(b"BC\xc0\xde")
    environment = os.environ | {"LLVM": folder, "BINUTILS": "", "LLC_OPTIONS": "", "TMPDIR": folder}
    words = [sys.executable, "-B", LINK, f"{folder}/program.o", "-o", f"{folder}/short"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False), f"{folder}/short"


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, 0o755)


def checks(folder):
    """What is checked, and whether it is so."""
    done, path = link(folder, program())
    assert done.returncode == 0, done.stderr
    subprocess.run(["as", f"{folder}/program.s", "-o", f"{folder}/plain.o"], check=True)
    subprocess.run(["ld", f"{folder}/plain.o", "-o", f"{folder}/plain"], check=True)
    plain, short = Program(f"{folder}/plain"), Program(path)
    lines = len(plain.said.splitlines())
    yield f"the program prints the same, {lines} lines", lines > 40 and plain.said == short.said
    for kind, (_, number) in REPEATED.items():
        is_fast = kind == "tail"  # Once more in the function for speed.
        counts = plain.count(number) - is_fast, short.count(number) - is_fast
        left = [line for copy in range(COPIES) for line in short.code[f"{kind}{copy}"]]
        is_moved = counts[1] == 1 and not any("<mix>" in line or line == "ret" for line in left)
        yield f"code that repeats is there once, to its end: {kind} {counts}", counts[0] >= COPIES and is_moved
    moved = next(code for code in short.code.values() if any("$0x44444," in line for line in code))
    yield "the stack is aligned for moved code that calls", moved[0] == "lea    -0x8(%rsp),%rsp"
    for kind, (_, number) in KEPT.items():
        yield f"code that cannot be moved is not: {kind}", short.count(number) == COPIES
    near = [line for copy in range(COPIES) for line in short.code[f"twice{copy}"] if f"<twice{copy}+" in line]
    yield "two jumps out of a function to the same place share one", sum(line.startswith("jmp") for line in near) >= COPIES - 1
    yield "a function that is optimised for speed remains as it is", plain.code["fast"] == short.code["fast"]
    yield "the frame pointer is lowered", "lea    -0x80(%rsp),%rbp" in [line for it in short.code.values() for line in it]
    yield "a frame pointer that is a number is not", "mov    %rsp,%rbp" in short.code["number"]
    far = [line for line in short.code["frame"] if "(%rsp)" in line and "lea" not in line]
    yield "variables far from it are addressed by the stack pointer", len(far) == 2
    yield "functions with the same code are one", short.places["same1"] == short.places["same2"]
    yield "a function that ends with a jump is before its target", short.code["first"] == ["sub    $0x63,%edi"]
    whole = TEXTS[0].replace("\\n", "\n").encode()
    yield "a text that is a part of another is stored once", (short.bytes.count(b"others"), plain.bytes.count(b"others")) == (1, 2)
    yield "a text that begins as another ends overlaps it", whole + b"what follows\n" in short.bytes
    done, _ = link(folder, "\n".join([*function("_start", "movl $1, -8(%rsp)|retq"), ""]))
    yield "a function that uses the red zone is refused", done.returncode != 0 and "_start uses the red zone" in done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        for what, holds in checks(folder):
            with open(os.environ["RESULTS"], "a", encoding="ascii") as results:
                results.write("pass\n" if holds else "fail\n")
            print(f"  ok      {what}" if holds else f"  FAILED  {what}", flush=True)


if __name__ == "__main__":
    main()
