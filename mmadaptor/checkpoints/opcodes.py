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

import torch

from .allowed import name_of
from .integrity import is_zip

DEPTH = 100
SIZE = 10_000_000  # objects; a shared one counts wherever it is used
KEY_SIZE = 100
PICKLES = 5  # in torch's format before 1.6
PROTOCOLS = (2, 3)  # which differ in how bytes are written
BYTES = ('SHORT_BINBYTES', 'BINBYTES')  # of protocol 3; torch reads none
REBUILD = 'torch._utils._rebuild_'
# What a file may call besides torch's list of safe globals: how tensors are made, and
# plain objects.
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
}
# Their results may be keys of a dict.
KEYS = ('torch.device', 'torch.Size', '_codecs.encode', 'builtins.complex')
CONTAINERS = dict(EMPTY_LIST='list', EMPTY_DICT='dict', EMPTY_SET='set')
LITERALS = {
    *('NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1'),
    *('BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING', 'EMPTY_TUPLE'),
}


# How many objects an opcode takes from the stack; None: those above a mark.
TAKES = {
    **dict(TUPLE=None, TUPLE1=1, TUPLE2=2, TUPLE3=3, APPEND=1, APPENDS=None),
    **dict(SETITEM=2, SETITEMS=None, BUILD=1, REDUCE=2, NEWOBJ=2, BINPERSID=1),
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


class ProtocolError(pickle.UnpicklingError):
    """A whole checkpoint, in a form of pickle that weights-only reading lacks."""


def refuse(what: str) -> None:
    """Refuse a pickle; the reason is shown as it is."""
    raise pickle.UnpicklingError(f'WeightsUnpickler error: it holds {what}')


class _Scan:
    """Reads one pickle, and keeps a stack as its reader would."""

    def __init__(self, file: IO[bytes], called: set[str]) -> None:
        self.called = called
        self.stack: list[_Node] = []
        self.memo: dict[int, _Node] = {}
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in LITERALS:
                self._literal(name, argument)
            elif name in CONTAINERS:
                self.stack.append(_Node(CONTAINERS[name]))
            elif name in TAKES:
                self._compound(name, self._pop(TAKES[name]))
            elif name == 'MARK':
                self.stack.append(MARK)
            elif name in ('BINPUT', 'LONG_BINPUT'):
                self.memo[argument] = self.stack[-1]
            elif name in ('BINGET', 'LONG_BINGET'):
                self.stack.append(self.memo[argument])
            elif name == 'GLOBAL':
                self._global(argument)
            elif name in BYTES:
                raise ProtocolError('bytes in pickle protocol 3')
            elif name == 'PROTO' and argument not in PROTOCOLS:
                raise ProtocolError(f'pickle protocol {argument}')
            elif name not in ('PROTO', 'STOP'):
                refuse(f'the opcode {name} of pickle, which torch.save does not write')

    def _literal(self, name: str, argument: Any) -> None:
        text = isinstance(argument, str)
        value = argument if text and len(argument) < 99 else None
        kind = 'text' if text else 'tuple' if name == 'EMPTY_TUPLE' else 'number'
        self.stack.append(_Node(kind, value, is_key=True))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(' ')
        module, name = NAME_MAPPING.get(
            (module, name), (IMPORT_MAPPING.get(module, module), name)
        )
        self.stack.append(_Node('global', f'{module}.{name}'))

    def _pop(self, count: int | None) -> list[_Node]:
        parts = []
        while len(parts) != count:
            part = self.stack.pop()
            if count is None and part is MARK:
                break
            parts.append(part)
        return parts[::-1]

    def _compound(self, name: str, parts: list[_Node]) -> None:
        """Make an object of others, or let the one below them hold them."""
        if name.startswith('TUPLE'):
            node = _Node('tuple', parts=parts if len(parts) < 9 else [])
            self._hold(node, parts)
            node.is_key = node.holds_keys and node.size <= KEY_SIZE
            self.stack.append(node)
        elif name in ('REDUCE', 'NEWOBJ'):
            self._call(*parts)
        elif name == 'BINPERSID':
            node = _Node('called', 'storage')
            self._hold(node, parts)
            self.stack.append(node)
        else:
            if name.startswith('SETITEM') and not all(k.is_key for k in parts[::2]):
                refuse('a dict whose keys are no texts or numbers')
            self._hold(self.stack[-1], parts)

    def _hold(self, node: _Node, parts: list[_Node]) -> None:
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

    def _call(self, function: _Node, arguments: _Node) -> None:
        name = function.value if function.kind == 'global' else 'a.call'
        if name not in self.called or arguments.kind != 'tuple':
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
        self._hold(node, [arguments])
        node.is_key = node.size <= KEY_SIZE and (
            name in KEYS or name.endswith('.scalar')
        )
        self.stack.append(node)


def check_opcodes(file: IO[bytes]) -> bool:
    """Check every pickle of a checkpoint, within :func:`.allowed_objects`.

    Args:
        file: The open file; it is read from its start, and is there afterwards.

    Returns:
        Whether it is a zip file.

    Raises:
        pickle.UnpicklingError: It holds what `torch.save` does not write.
    """
    called = CALLED | {name_of(e) for e in torch.serialization.get_safe_globals()}
    zipped = is_zip(file)
    file.seek(0)
    if zipped:
        with zipfile.ZipFile(file) as archive:
            # Of two records of a name, and of names in other cases, torch takes any.
            for record in archive.infolist():
                if record.filename.lower().endswith('data.pkl'):
                    with archive.open(record) as opened:
                        _Scan(opened, called)
    else:
        for _ in range(PICKLES):
            _Scan(file, called)
    file.seek(0)
    return zipped
