# SPDX-License-Identifier: Apache-2.0
"""A reading of a checkpoint's pickle that makes none of its objects.

torch's weights-only reading calls only what is on a list. But a thousand bytes
can still keep it busy for ever, take all memory or end the interpreter: a tuple
that holds another one twice, sixty times over, as the key of a dict; a million
tuples in each other; a text that is encoded to twice its length, thirty times
over. So what is called and how deep and large each object is are checked first,
from the opcodes alone.
"""

import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import IO, Any

from .allowed import ALLOWED

DEPTH = 100
SIZE = 10_000_000  # objects; a shared one counts wherever it is used
KEY_SIZE = 100
PICKLES = 5  # in torch's format before 1.6
REBUILD = 'torch._utils._rebuild_'
# What a file may call: how tensors are made, plain objects, and the stand-ins.
CALLED = {
    'collections.OrderedDict',
    'collections.Counter',
    'torch.Size',
    'torch.device',
    'torch.serialization._get_layout',
    'torch._tensor._rebuild_from_type_v2',
    *(f'{REBUILD}{name}' for name in ('tensor', 'tensor_v2', 'tensor_v3', 'parameter')),
    *(f'{REBUILD}{name}' for name in ('parameter_with_state', 'qtensor')),
    f'{REBUILD}sparse_tensor',
    'torch.nn.parameter.Parameter',
    '_codecs.encode',
    'builtins.bytearray',
    'builtins.complex',
    'builtins.set',
    *(name for _, name in ALLOWED),
}
# Their results may be keys of a dict.
KEYS = ('torch.device', 'torch.Size', '_codecs.encode', 'builtins.complex')
CONTAINERS = dict(EMPTY_LIST='list', EMPTY_DICT='dict', EMPTY_SET='set')
LITERALS = {
    *('NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1'),
    *('BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING', 'EMPTY_TUPLE'),
}


@dataclass(slots=True, eq=False)
class _Node:
    """An object of a pickle: what it is, and how deep and large."""

    kind: str
    value: Any = None  # of a short text or a global
    depth: int = 0
    size: int = 1
    is_key: bool = False
    holds_keys: bool = True  # and nothing else
    held: bool = False  # by another object; then it cannot grow any more
    parts: list['_Node'] = field(default_factory=list)  # of a tuple


MARK = _Node('mark')


def refuse(what: str) -> None:
    """Refuse a pickle; the reason is shown as it is."""
    raise pickle.UnpicklingError(f'WeightsUnpickler error: it holds {what}')


class _Scan:
    """Reads one pickle, by a method for each opcode that changes the stack."""

    def __init__(self, file: IO[bytes]) -> None:
        self.stack: list[_Node] = []
        self.memo: dict[int, _Node] = {}
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in LITERALS:
                self.literal(name, argument)
            elif name in CONTAINERS:
                self.stack.append(_Node(CONTAINERS[name]))
            elif step := getattr(self, f'on_{name.lower()}', None):
                step(argument)
            else:
                refuse(f'the opcode {name} of pickle, which torch.save does not write')

    def literal(self, name: str, argument: Any) -> None:
        text = isinstance(argument, str)
        value = argument if text and len(argument) < 99 else None
        kind = 'text' if text else 'tuple' if name == 'EMPTY_TUPLE' else 'number'
        self.stack.append(_Node(kind, value, is_key=True))

    def hold(self, node: _Node, parts: list[_Node]) -> None:
        """Let an object hold others."""
        if node.held or any(part is node for part in parts):
            refuse('an object that holds itself')
        for part in parts:
            part.held = True
            node.depth = max(node.depth, part.depth + 1)
            node.size += part.size
            node.holds_keys &= part.is_key
        if node.depth > DEPTH:
            refuse(f'more than {DEPTH} objects in each other')
        if node.size > SIZE:
            refuse(f'more than {SIZE} objects')

    def pop_to_mark(self) -> list[_Node]:
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
        parts = self.stack[at + 1 :]
        del self.stack[at:]
        return parts

    def make_tuple(self, parts: list[_Node]) -> None:
        node = _Node('tuple', parts=parts if len(parts) < 9 else [])
        self.hold(node, parts)
        node.is_key = node.holds_keys and node.size <= KEY_SIZE
        self.stack.append(node)

    def on_proto(self, version: int) -> None:
        if version != 2:
            refuse(f'a pickle of protocol {version}; torch.save writes protocol 2')

    def on_stop(self, _: None) -> None:
        pass

    def on_mark(self, _: None) -> None:
        self.stack.append(MARK)

    def on_binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def on_binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    on_long_binput, on_long_binget = on_binput, on_binget

    def on_tuple(self, _: None) -> None:
        self.make_tuple(self.pop_to_mark())

    def on_tuple1(self, _: None) -> None:
        self.make_tuple([self.stack.pop()])

    def on_tuple2(self, _: None) -> None:
        self.make_tuple([self.stack.pop() for _ in range(2)][::-1])

    def on_tuple3(self, _: None) -> None:
        self.make_tuple([self.stack.pop() for _ in range(3)][::-1])

    def on_append(self, _: None) -> None:
        item = self.stack.pop()
        self.hold(self.stack[-1], [item])

    def on_appends(self, _: None) -> None:
        items = self.pop_to_mark()
        self.hold(self.stack[-1], items)

    def on_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def on_setitems(self, _: None) -> None:
        self.set_items(self.pop_to_mark())

    def set_items(self, items: list[_Node]) -> None:
        if not all(key.is_key for key in items[::2]):
            refuse('a dict whose keys are no texts or numbers')
        self.hold(self.stack[-1], items)

    def on_global(self, argument: str) -> None:
        module, _, name = argument.partition(' ')
        module, name = NAME_MAPPING.get(
            (module, name), (IMPORT_MAPPING.get(module, module), name)
        )
        self.stack.append(_Node('global', f'{module}.{name}'))

    def on_reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    on_newobj = on_reduce

    def call(self, function: _Node, arguments: _Node) -> None:
        name = function.value if function.kind == 'global' else 'a.call'
        if name not in CALLED or arguments.kind != 'tuple':
            raise pickle.UnpicklingError(f'GLOBAL {name} was not an allowed global')
        first, last = (*arguments.parts[:1], *arguments.parts[-1:]) or (None, None)
        fits = {
            '_codecs.encode': last and last.value in ('latin1', 'latin-1'),
            'builtins.bytearray': not first or first.kind != 'number',
            'builtins.set': not first or first.holds_keys,
            'collections.Counter': not first or first.kind == 'dict',
            'torch._tensor._rebuild_from_type_v2': first
            and str(first.value).startswith(REBUILD),
        }
        if not fits.get(name, True):
            refuse(f'a call of {name} with other arguments than torch.save writes')
        node = _Node('called', name)
        self.hold(node, [arguments])
        node.is_key = node.size <= KEY_SIZE and (
            name in KEYS or name.endswith('.scalar')
        )
        self.stack.append(node)

    def on_build(self, _: None) -> None:
        state = self.stack.pop()
        self.hold(self.stack[-1], [state])

    def on_binpersid(self, _: None) -> None:
        node = _Node('called', 'storage')
        self.hold(node, [self.stack.pop()])
        self.stack.append(node)


def check_opcodes(file: IO[bytes]) -> None:
    """Check every pickle of a checkpoint.

    Args:
        file: The open file; it is read from its start, and is there afterwards.

    Raises:
        pickle.UnpicklingError: It holds what `torch.save` does not write.
    """
    file.seek(0)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith('data.pkl'):
                    with archive.open(name) as record:
                        _Scan(record)
    else:
        file.seek(0)
        for _ in range(PICKLES):
            _Scan(file)
    file.seek(0)
