"""Makes functions of code that repeats."""

import heapq
import itertools
import re
from collections import defaultdict

from assembly import CALLS, CALLS_LEAF, LEAVES, NEVER, POPS, PUSHES, USES_STACK, Function, kind_of

# The bytes of a call of another function, and of a jump to one.
CALL = 5


class Method:
    """How code is moved: what replaces it, what kind of instruction that is, and what surrounds it."""

    def __init__(self, operation, kind, before=(), after=(), overhead=0):
        self.operation = operation
        self.kind = kind
        self.before = list(before)
        self.after = list(after)
        self.overhead = overhead  # Bytes.


# It ends with a return or a jump to a function, and is jumped to.
TAIL = Method("jmp", LEAVES)
# It ends with a call, which becomes a jump: that function returns to where the code was.
LAST_CALL = Method("callq", CALLS)
# It does not use the stack.
LEAF = Method("callq", CALLS_LEAF, after=["retq"], overhead=1)
# It calls functions. The stack is 16-byte aligned for those; flags remain as they are.
INNER_CALLS = Method("callq", CALLS, ["leaq -8(%rsp), %rsp"], ["leaq 8(%rsp), %rsp", "retq"], 11)
# The start of a function; nothing is in %r11 there.
ENTRY = Method("callq", NEVER, ["popq %r11"], ["pushq %r11", "retq"], 5)
METHODS = (TAIL, LAST_CALL, LEAF, INNER_CALLS, ENTRY)


def method_for(kinds):
    """How code of these kinds of instructions is moved from anywhere in a function, if it can be."""
    last = kinds[-1]
    if NEVER in kinds or LEAVES in kinds[:-1]:
        return None
    if last == LEAVES:
        return TAIL
    if USES_STACK in kinds:
        return None
    pushed = 0
    for kind in kinds:
        if kind == PUSHES:
            pushed += 1
        elif kind == POPS:
            pushed -= 1
        if pushed < 0 or (pushed > 0 and kind in (CALLS, CALLS_LEAF)):
            return None
    if pushed:
        return None
    inner = CALLS in kinds[:-1]
    if last in (CALLS, CALLS_LEAF) and not inner:
        return LAST_CALL
    return INNER_CALLS if inner or last == CALLS else LEAF


class Outliner:
    """Finds code that repeats in functions and makes functions of it."""

    def __init__(self, functions, size_of):
        self.functions = functions
        self.sizes = dict(size_of)
        self.kinds = {}
        self.moved = []

    def kind(self, line):
        if line not in self.kinds:
            self.kinds[line] = kind_of(line)
        return self.kinds[line]

    def run(self):
        """Moves code until little is gained by it; returns the new functions."""
        while self.round() > 100:
            pass
        return self.moved

    def round(self):
        """Moves the code that repeats now; returns the bytes gained."""
        code, owners = [], []
        for function in [*self.functions, *self.moved]:
            # A line that is not an instruction separates two functions.
            code += [".start", *function.code, ".end"]
            owners += [function] * (len(function.code) + 2)
        gained = 0
        taken = bytearray(len(code))
        replaced = {}
        count = itertools.count()
        queue = []
        for length, places in repeats(code, self.kind):
            found = self.candidate(code, owners, length, places)
            if found:
                heapq.heappush(queue, (-found[0], next(count), length, *found[1:]))
        while queue:
            expected, _, length, method, size, places = heapq.heappop(queue)
            free, end = [], 0
            for place in places:
                if place >= end and not any(taken[place : place + length]):
                    free.append(place)
                    end = place + length
            gain = gain_of(len(free), size, method)
            if gain <= 0:
                continue
            if gain < -expected and queue and gain < -queue[0][0]:
                heapq.heappush(queue, (-gain, next(count), length, method, size, free))
                continue
            gained += gain
            line = self.move(code[free[0] : free[0] + length], method, all(owners[p].is_stack_fixed for p in free))
            for place in free:
                taken[place : place + length] = b"\1" * length
                replaced[place] = line
        self.replace(code, owners, taken, replaced)
        return gained

    def candidate(self, code, owners, length, places):
        """The gain of moving a piece of code that repeats, the method, its size and its places."""
        lines = code[places[0] : places[0] + length]
        kinds = [self.kind(line) for line in lines]
        method = method_for(kinds)
        if method is INNER_CALLS:
            places = [place for place in places if owners[place].is_stack_fixed]
        elif method is None:
            if {CALLS, CALLS_LEAF, LEAVES, NEVER} & set(kinds) or any("%r11" in line for line in lines):
                return None
            method = ENTRY
            places = [place for place in places if code[place - 1] == ".start"]
        size = sum(self.sizes[line] for line in lines)
        gain = gain_of(len(places), size, method)
        return (gain, method, size, places) if gain > 0 else None

    def move(self, lines, method, is_stack_fixed):
        """Makes a function of code; returns the instruction that replaces it."""
        function = Function(f"moved.{len(self.moved)}")
        if method is LAST_CALL:
            *lines, last = lines
            lines.append(re.sub(r"^callq \*", "jmpq *", last).replace("callq ", "jmp "))
            self.sizes.setdefault(lines[-1], self.sizes[last])
        function.code = [*method.before, *lines, *method.after]
        function.is_stack_fixed = is_stack_fixed
        # Its own start is no place for ENTRY: %r11 may have a value there.
        function.code.insert(0, ".moved")
        self.moved.append(function)
        line = f"{method.operation} {function.name}"
        self.sizes[line] = CALL
        self.kinds[line] = method.kind
        return line

    def replace(self, code, owners, taken, replaced):
        """Puts what replaces moved code in its place."""
        changed = defaultdict(list)
        for place, (line, owner) in enumerate(zip(code, owners)):
            if place in replaced:
                changed[owner].append(replaced[place])
            elif not taken[place]:
                changed[owner].append(line)
        for function, lines in changed.items():
            function.code = lines[1:-1]


def gain_of(places, size, method):
    """The bytes gained by moving code of that size from so many places."""
    return places * (size - CALL) - size - method.overhead


def repeats(code, kind):
    """The lengths and places of all pieces of code that repeat, by length."""
    by_line = defaultdict(list)
    for place, line in enumerate(code):
        if kind(line) != NEVER:
            by_line[line].append(place)
    length = 1
    repeated = [places for places in by_line.values() if len(places) > 1]
    while repeated:
        number = {place: n for n, places in enumerate(repeated) for place in places}
        for places in repeated:
            yield length, places
        longer = defaultdict(list)
        for place in sorted(number):
            if place + length < len(code) and (after := number.get(place + 1)) is not None:
                longer[number[place], after].append(place)
        repeated = [places for places in longer.values() if len(places) > 1]
        length += 1
