"""The order of functions, and jumps between them."""

import re

from assembly import is_instruction

# A label in a function, but not of its data.
LABEL = re.compile(r"\.LBB\w+")
SYMBOL = re.compile(r"[A-Za-z_.][\w.$]*")


def merge_identical(functions, exported):
    """Gives the names of functions whose code is the same to one of them."""
    while True:
        found, merged = {}, {}
        for function in functions:
            code = comparable(function.code)
            kept = found.setdefault(code, function)
            # Tables for unwinding the stack, which tests have, refer to .Ltmp labels.
            if kept is not function and function.name not in exported and ".Ltmp" not in "".join(code):
                kept.aliases += [function.name, *function.aliases]
                merged[function.name] = kept.name
        if not merged:
            return functions
        functions = [function for function in functions if function.name not in merged]
        for function in functions:
            function.code = [
                SYMBOL.sub(lambda name: merged.get(name[0], name[0]), line) if is_instruction(line) else line
                for line in function.code
            ]


def comparable(code):
    """Code in which labels have the numbers of their places."""
    labels = {}
    return tuple(
        LABEL.sub(lambda label: f".L{labels.setdefault(label[0], len(labels))}", line) if ".L" in line else line
        for line in code
    )


def chains(functions):
    """Arranges functions that end with a jump to another before that, without the jump."""
    by_name = {name: function for function in functions for name in [function.name, *function.aliases]}
    after, before = {}, {}
    for function in functions:
        target = function.code and function.code[-1].startswith("jmp ") and by_name.get(function.code[-1][4:])
        if not target or target.name in before:
            continue
        last = target
        while last.name in after:
            last = after[last.name]
        if last is function:
            continue  # They would follow each other in a circle.
        after[function.name] = target
        before[target.name] = function
        function.code.pop()
    for function in functions:
        if function.name in before:
            continue
        chain = [function]
        while chain[-1].name in after:
            chain.append(after[chain[-1].name])
        yield chain


def share_jumps(function, size_of, number):
    """Makes jumps out of a function short if one to the same place is near: 2 bytes instead of 5."""
    code = function.code
    position, positions = 0, []
    for line in code:
        positions.append(position)
        position += size_of.get(line, 6 if is_instruction(line) else 0)
    near = {}  # The last jump to each function, and its label.
    before = {}  # Labels by place.
    for at, line in enumerate(code):
        if not line.startswith("jmp moved."):
            continue
        if line in near and positions[at] - positions[near[line]] < 120:
            first = near[line]
            label = before.setdefault(first, f".Lnear{next(number)}")
            code[at] = f"jmp {label}"
        else:
            near[line] = at
    for place in sorted(before, reverse=True):
        code.insert(place, f"{before[place]}:")
