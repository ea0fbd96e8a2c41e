# SPDX-License-Identifier: Apache-2.0
"""Machine code of GPUs as nvdisasm prints it: instructions, and the loops they form."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LINE = re.compile(r'/\*([0-9a-f]+)\*/\s+(.*?)\s*;')
TARGET = re.compile(r'`\((\.L_x_\d+)\)')
PREDICATE = re.compile(r'@!?U?P\w+\s+')
SIZE = 16
"""Bytes of an instruction."""
KINDS = (
    ('load', 'LDG|LD'),
    ('store', 'STG|ST|RED|ATOMG|ATOM'),
    ('constant', 'U?LDCU?'),
    ('shared', 'LDS|STS|LDSM|STSM|ATOMS|LDGSTS|UBLKCP|SYNCS'),
    ('local', 'LDL|STL'),
    ('special', 'MUFU|I2F|F2I|FRND'),
    ('float', '[FDH](ADD|MUL|FMA|SETP|SET|SEL|MNMX|SWZADD)2?|FCHK|F2F|F2FP'),
    ('branch', 'BRA|BRX|BSSY|BSYNC|BREAK|EXIT|CALL|RET|WARPSYNC|NOP|JMP'),
    ('exchange', 'SHFL|VOTEU?|MATCH|REDUX|BAR|MEMBAR|DEPBAR|LDGDEPBAR'),
)
"""Kinds of instructions and names of theirs; all others are of the kind `integer`."""


@dataclass
class Instruction:
    """One instruction of a kernel.

    Args:
        address: Offset in the kernel in bytes.
        text: Without the predicate.
        predicated: Whether a predicate guards it.
    """

    address: int
    text: str
    predicated: bool

    @property
    def opcode(self) -> str:
        """Its name with all modifiers, as `LDG.E.64`."""
        return self.text.split()[0]

    @property
    def name(self) -> str:
        """Its name without modifiers."""
        return self.opcode.split('.')[0]

    @property
    def kind(self) -> str:
        """The kind in `KINDS`; of loads and stores with the width in bits."""
        for kind, names in KINDS:
            if re.fullmatch(names, self.name):
                if kind in ('load', 'store'):
                    width = re.search(r'\.[US]?(8|16|64|128)\b', self.opcode)
                    return f'{kind} {width[1] if width else 32}'
                return kind
        return 'integer'


@dataclass
class Loop:
    """A loop: all blocks that lead back to its header.

    Args:
        header: Address of the first instruction.
        own: Counts by kind of its instructions that are in no inner loop.
        inner: The loops directly in it.
    """

    header: int
    own: Counter
    inner: list['Loop'] = field(default_factory=list)

    def counts(self) -> Counter:
        """Count all its instructions by kind, those of inner loops once."""
        return sum((loop.counts() for loop in self.inner), self.own)

    def total(self) -> int:
        """Return its number of instructions."""
        return self.counts().total()

    def chain(self) -> list['Loop']:
        """Return it, its largest inner loop, the largest in that, and so on."""
        return [self] + (max(self.inner, key=Loop.total).chain() if self.inner else [])


def read(assembly: str) -> dict[str, tuple[list[Instruction], dict[str, int]]]:
    """Read what nvdisasm prints.

    Args:
        assembly: Output of `nvdisasm -c`.

    Returns:
        Instructions, and addresses by label, for each function by its mangled name.
    """
    functions: dict[str, tuple[list[Instruction], dict[str, int]]] = {}
    for line in assembly.splitlines():
        if section := re.match(r'\.text\.(\S+):', line):
            code, labels = functions.setdefault(section[1], ([], {}))
        elif label := re.match(r'(\.L_x_\d+):', line):
            labels[label[1]] = code[-1].address + SIZE if code else 0
        elif found := LINE.search(line):
            guard = PREDICATE.match(found[2])
            text = found[2][guard.end() :].lstrip() if guard else found[2]
            code.append(Instruction(int(found[1], 16), text, bool(guard)))
    return functions


def successors(
    code: Sequence[Instruction], labels: dict[str, int]
) -> dict[int, list[int]]:
    """Return the addresses that each instruction may continue at.

    Args:
        code: Instructions of a function.
        labels: Addresses by label.

    Raises:
        ValueError: A jump has a target that is computed.
    """
    after: dict[int, list[int]] = {}
    reconverges: dict[str, int] = {}  # by the register of a BSSY
    for instruction in code:
        name, text, here = instruction.name, instruction.text, instruction.address
        target = TARGET.search(text)
        goes_on = instruction.predicated
        if name == 'BSSY':
            reconverges[text.split()[1].rstrip(',')] = labels[target[1]]
        if name == 'BSYNC':
            targets = [reconverges[text.split()[1]]]
        elif name in ('BRA', 'JMP'):
            targets = [labels[target[1]]]
            # A condition may be an operand: `BRA.DIV UR4, ...`, `BRA UP0, ...`.
            goes_on |= ',' in text
        elif name in ('EXIT', 'RET'):
            targets = []
        elif name in ('BRX', 'JMX'):
            raise ValueError(f'expected jumps to labels, got {text} at {here:#x}')
        else:
            targets, goes_on = [], True
        after[here] = targets + ([here + SIZE] if goes_on else [])
    return {a: [t for t in to if t in after] for a, to in after.items()}


def find_loops(code: Sequence[Instruction], labels: dict[str, int]) -> Loop:
    """Find the loops of a function by the back edges of its control flow graph.

    Args:
        code: Its instructions.
        labels: Addresses by label.

    Returns:
        All code that can be reached, as if it were a loop, with its loops in it.
    """
    after = successors(code, labels)
    dominators = immediate_dominators(after)
    before = predecessors(dominators, after)
    bodies = {code[0].address: set(dominators)}
    for a in dominators:
        for header in after[a]:
            above = a
            while above not in (header, dominators[above]):
                above = dominators[above]
            if above != header:
                continue
            body, pending = bodies.setdefault(header, {header}), [a]
            while pending:
                if (b := pending.pop()) not in body:
                    body.add(b)
                    pending += before[b]
    kinds = {i.address: i.kind for i in code}
    loops: list[tuple[set[int], Loop]] = []  # those around others first
    for header, body in sorted(bodies.items(), key=lambda item: -len(item[1])):
        inside = (b for h, b in bodies.items() if h in body and h != header)
        own = Counter(kinds[a] for a in body.difference(*inside))
        loop = Loop(header, own)
        around = [other for others, other in loops if header in others]
        if around:
            around[-1].inner.append(loop)
        loops.append((body, loop))
    return loops[0][1]


def immediate_dominators(after: dict[int, list[int]]) -> dict[int, int]:
    """Find for each reachable address the last one that every way to it passes.

    The method is that of Cooper, Harvey and Kennedy (2001).

    Args:
        after: Addresses that follow each address; the first key is the entry.

    Returns:
        The dominators in reverse postorder; that of the entry is the entry.
    """
    entry = next(iter(after))
    finished, pending, seen = [], [(entry, iter(after[entry]))], {entry}
    while pending:
        address, targets = pending[-1]
        target = next((t for t in targets if t not in seen), None)
        if target is None:
            finished.append(address)
            pending.pop()
        else:
            seen.add(target)
            pending.append((target, iter(after[target])))
    finished.reverse()
    order = {address: i for i, address in enumerate(finished)}
    before = predecessors(finished, after)
    dominators = {entry: entry}

    def common(a: int, b: int) -> int:
        while a != b:
            if order[a] < order[b]:
                a, b = b, a
            a = dominators[a]
        return a

    changed = True
    while changed:
        changed = False
        for address in finished[1:]:
            known = [b for b in before[address] if b in dominators]
            dominator = functools.reduce(common, known)
            changed |= dominators.get(address) != dominator
            dominators[address] = dominator
    return {a: dominators[a] for a in finished}


def predecessors(
    reachable: Iterable[int], after: dict[int, list[int]]
) -> dict[int, list[int]]:
    """Return the addresses from which each address is reached.

    Args:
        reachable: Addresses to start from.
        after: Addresses that follow each address.
    """
    before: dict[int, list[int]] = {}
    for a in reachable:
        for b in after[a]:
            before.setdefault(b, []).append(a)
    return before
