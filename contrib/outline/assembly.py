"""The assembly language of a program, as LLVM's llc writes it for x86_64."""

import re

EXPORTED = re.compile(r'\t\.(?:globl|weak)\t("[^"]*"|\S+)')
FUNCTION = re.compile(r'\t\.type\t("[^"]*"|[^",]+),@function')
STACK_POINTER = re.compile(r"%[re]?spl?\b")
# Functions that return twice. Code that runs after the first time overwrites the stack of moved code.
RETURNS_TWICE = re.compile(r"\b(?:vfork|_*(?:sig)?setjmp)\b")

# What an instruction does, as far as it decides how it can be moved: some call moved code that calls
# nothing (CALLS_LEAF), LEAVES ends a function.
FREELY, CALLS, CALLS_LEAF, PUSHES, POPS, USES_STACK, LEAVES, NEVER = range(8)


class Function:
    """A function: its name, its code and what is known of it.

    In the code, instructions have single spaces and no comments. Other lines are labels, or begin
    with a dot (directives) or with a tab (assembly language in the source of the program).
    """

    def __init__(self, name):
        self.name = name
        self.code = []
        self.end = None  # The label of its end.
        self.aliases = []  # Other names of it.
        # Whether the stack pointer only changes at the start, at the end, and for pairs of push and pop:
        # then all arguments of the functions that it calls are in registers.
        self.is_stack_fixed = False
        self.frame = None  # The bytes between the usual place of the frame pointer and the stack pointer.


def is_instruction(line):
    return not line.startswith((".", "\t")) and not line.endswith(":")


def parse(source):
    """The lines of a program in assembly language, and its functions that are optimised for size.

    The lines have all but the code of those functions.
    """
    rest, functions, exported = [], [], set()
    name = function = None
    aligned = verbatim = False
    for line in source.split("\n"):
        if line.startswith("\t.cfi_"):
            continue  # Nothing unwinds the stack.
        if function is not None:
            if line.startswith("\t.size\t"):
                function = name = None
            elif "#APP" in line or "#NO_APP" in line:
                verbatim = "#APP" in line
            elif line.startswith(".Lfunc_end"):
                function.end = line
            else:
                line = " ".join(line.split("#", 1)[0].split())
                if line:
                    function.code.append("\t" + line if verbatim else line)
            continue
        if line.startswith(("\t.section\t", "\t.text")):
            aligned = False
        elif line.startswith("\t.p2align\t"):
            aligned = True
        elif found := EXPORTED.match(line):
            exported.add(found[1])
        elif found := FUNCTION.match(line):
            name = found[1]
        elif name is not None and line.startswith(name + ":"):
            if not aligned:
                function = Function(name)
                functions.append(function)
                continue
            name = None
        rest.append(line)
    return rest, functions, exported


def kind_of(line):
    """How an instruction can be moved."""
    if not is_instruction(line):
        return NEVER
    operation = line.split(" ", 1)[0]
    on_stack = STACK_POINTER.search(line)
    if operation in ("retq", "ud2"):
        return LEAVES
    if operation in ("jmp", "jmpq"):
        # A label is only known in its function.
        return NEVER if on_stack or line.startswith("jmp .L") else LEAVES
    if operation == "callq":
        return NEVER if on_stack or RETURNS_TWICE.search(line) else CALLS
    if operation.startswith(("j", "loop", "rep", "data16", "leave", "enter", "syscall", "pushf", "popf", "x")) and (
        not operation.startswith(("xor", "xchg", "xadd"))
    ):
        return NEVER
    if operation in ("pushq", "popq"):
        return NEVER if on_stack else PUSHES if operation == "pushq" else POPS
    return USES_STACK if on_stack else FREELY
