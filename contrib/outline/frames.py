"""The stack frames of functions."""

import re

from assembly import POPS, PUSHES, STACK_POINTER, is_instruction, kind_of

# How far below its usual place the frame pointer stands. An offset from -128 to 127 takes one byte,
# any other four; the variables of a function are below its frame pointer.
LOWER = 128

FRAME_POINTER = re.compile(r"%[re]?bpl?\b")
# An address in the frame of a function.
IN_FRAME = re.compile(r"(?<![\w.$+-])(-?\d+)?\(%rbp(?=[,)])")
SAVES = re.compile(r"pushq %r(?:bx|1[2-5])")
RESTORES = re.compile(r"popq %r(?:bx|bp|1[2-5])")
GROWS = re.compile(r"subq \$(\d+), %rsp|pushq (%rax)")
SHRINKS = re.compile(r"addq \$\d+, %rsp|popq %r(?:[acd]x|[sd]i|8|9|1[01])")


def lower_frame_pointer(function):
    """Moves the frame pointer of a function, and makes the ends of all functions alike."""
    code = function.code
    start = next((at for at in range(len(code) - 1) if code[at : at + 2] == ["pushq %rbp", "movq %rsp, %rbp"]), None)
    if start is None:
        return
    at = start + 2
    frame = 0
    while SAVES.fullmatch(code[at]):
        frame += 8
        at += 1
    if grows := GROWS.fullmatch(code[at]):
        frame += int(grows[1] or 8)
        at += 1
    lowered = code[:start] + ["pushq %rbp", f"leaq -{LOWER}(%rsp), %rbp"] + code[start + 2 : at]
    rest = start + 2
    is_stack_fixed = all(is_without_stack(line) for line in code[:start])
    while at < len(code):
        line = code[at]
        end = at + 1 if SHRINKS.fullmatch(line) else at
        while end < len(code) and RESTORES.fullmatch(code[end]):
            end += 1
        if end > at and code[end - 1] == "popq %rbp":
            if end - at > 1 and SHRINKS.fullmatch(line):
                lowered.append(f"leaq {LOWER - 8 * (end - at - 2)}(%rbp), %rsp")
                at += 1
            lowered += code[at:end]
            at = end
            continue
        if line.startswith("pushq ") and code[at + 1 : at + 2] and code[at + 1].startswith("popq "):
            lowered += [moved_by_frame(line), moved_by_frame(code[at + 1])]
            at += 2
            continue
        is_stack_fixed = is_stack_fixed and is_without_stack(line)
        lowered.append(moved_by_frame(line))
        at += 1
    if any(FRAME_POINTER.search(IN_FRAME.sub("", line)) for line in code[rest:] if line != "popq %rbp"):
        return  # A register as any other.
    function.code = lowered
    function.is_stack_fixed = is_stack_fixed
    function.frame = frame if is_stack_fixed else None


def moved_by_frame(line):
    """An instruction, for the lowered frame pointer."""
    return IN_FRAME.sub(lambda found: f"{int(found[1] or 0) + LOWER}(%rbp", line)


def is_without_stack(line):
    return not STACK_POINTER.search(line) and kind_of(line.lstrip("\t")) not in (PUSHES, POPS)


def address_by_stack_pointer(function):
    """Addresses variables that are far from the frame pointer by the stack pointer, if they are near that."""

    def nearer(found):
        offset = int(found[1] or 0)
        above = offset - LOWER + function.frame
        return found[0] if -128 <= offset <= 127 or not 0 <= above <= 127 else f"{above}(%rsp"

    if function.frame is not None:
        function.code = [
            IN_FRAME.sub(nearer, line) if is_instruction(line) and not line.endswith("(%rbp), %rsp") else line
            for line in function.code
        ]
