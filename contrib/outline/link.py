#!/usr/bin/env python3
"""Links a small program for x86_64: a linker for rustc.

    link.py ARGUMENT-OF-LLD...

Code that repeats becomes a function of its own. LLVM can do that, but on x86_64 not with code that
calls, pushes, pops or returns: with most of what repeats. So rust-lld optimises the program and
leaves it as LLVM's code, LLVM's llc makes assembly language of that, this script shortens it, and
GNU's assembler and rust-lld make the program. What it does, in this order:

- The frame pointer of each function points 128 bytes lower, so that twice as many variables have a
  short address, and functions end with the same instructions whatever the size of their frame.
- Functions with the same code become one.
- Instructions that repeat, in functions or across them, become a function.
- A function that ends with a jump to another is placed before that, and needs no jump.
- Texts that are parts of others are stored once.

Functions that are optimised for speed remain as they are. llc aligns those alone. No function may
use the red zone, the memory below the stack pointer: calls of moved code overwrite it.

Environment: LLVM, the folder of Rust's rust-lld and llc; BINUTILS, what the names of the binutils
begin with; LLC_OPTIONS, options for llc, separated by spaces.
"""

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict

sys.dont_write_bytecode = True

from assembly import NEVER, kind_of, parse
from frames import address_by_stack_pointer, lower_frame_pointer
from layout import chains, merge_identical, share_jumps
from repeats import METHODS, Outliner
from texts import pack_texts

RED_ZONE = re.compile(r"-\d+\(%rsp\)")


def shorten(source, sizes):
    """Makes a program in assembly language shorter. `sizes` returns the sizes of instructions."""
    # All libraries are in the program.
    source = re.sub(r"callq\t\*(\w+)@GOTPCREL\(%rip\)", r"callq\t\1", source)
    source = re.sub(r"jmpq\t\*(\w+)@GOTPCREL\(%rip\)", r"jmp\t\1", source)
    rest, functions, exported = parse(source)
    for function in functions:
        if any(RED_ZONE.search(line) for line in function.code):
            sys.exit(f"outline: {function.name} uses the red zone")
        lower_frame_pointer(function)
    functions = merge_identical(functions, exported)
    lines = {line for function in functions for line in function.code}
    lines.update(line for method in METHODS for line in [*method.before, *method.after])
    size_of = sizes({line for line in lines if kind_of(line) != NEVER})
    moved = Outliner(functions, size_of).run()
    for function in moved:
        function.code.pop(0)
    number = itertools.count()
    for chain in chains(functions + moved):
        rest.append(f'\t.section\t.text.{chain[-1].name},"ax",@progbits')
        for function in chain:
            address_by_stack_pointer(function)
            share_jumps(function, size_of, number)
            rest += [f"\t.type\t{function.name},@function", f"{function.name}:", *function.code]
            rest += [function.end] if function.end else []
            rest.append(f"\t.size\t{function.name}, .-{function.name}")
            rest += [f"\t.set\t{alias}, {function.name}" for alias in function.aliases]
    return "\n".join([*pack_texts(rest), ""])


def main():
    arguments = sys.argv[1:]
    llvm, binutils = os.environ["LLVM"], os.environ["BINUTILS"]

    def run(*command):
        status = subprocess.call(command)
        if status:
            sys.exit(f"outline: {command[0]} ended with {status}")

    with tempfile.TemporaryDirectory() as folder:
        bitcode, assembly, code, listing = (f"{folder}/program.{kind}" for kind in ("bc", "s", "o", "lst"))

        def sizes(instructions):
            """Assembles instructions; returns the bytes of each."""
            instructions = sorted(instructions)
            with open(assembly, "w", encoding="latin-1") as file:
                file.write("\n".join([*instructions, ""]))
            run(f"{binutils}as", f"-aln={listing}", "--listing-rhs-width=1", assembly, "-o", code)
            found = defaultdict(int)
            with open(listing, encoding="latin-1") as file:
                for line in file:
                    if part := re.match(r" *(\d+) (?:[0-9a-f]{4,}|    ) ([0-9A-F]+)", line):
                        found[instructions[int(part[1]) - 1]] += len(part[2]) // 2
            return found

        run(f"{llvm}/rust-lld", *arguments, "--lto-emit-llvm", "-o", bitcode)
        options = ["-O2", "-relocation-model=pic", "-function-sections", "-data-sections"]
        run(f"{llvm}/llc", *options, *os.environ["LLC_OPTIONS"].split(), bitcode, "-o", assembly)
        with open(assembly, encoding="latin-1") as file:
            text = shorten(file.read(), sizes)
        with open(assembly, "w", encoding="latin-1") as file:
            file.write(text)
        run(f"{binutils}as", assembly, "-o", code)
        run(f"{llvm}/rust-lld", *[code if is_program(argument) else argument for argument in arguments])


def is_program(argument):
    """Whether an argument is the file of LLVM's code that becomes the program."""
    if not argument.endswith(".o"):
        return False
    with open(argument, "rb") as file:
        return file.read(4) == b"BC\xc0\xde"


if __name__ == "__main__":
    main()
