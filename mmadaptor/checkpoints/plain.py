# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that hold only what weights-only reading reads.

mmengine's hold histories of logs, numpy scalars and whatever hooks and datasets add,
such as a `Path`. `torch.load` refuses these from version 2.6 on, and so does
:mod:`.loading`: a training that saved them could not be resumed.
"""

import argparse
import datetime
import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmadaptor.errors import DamagedFileError
from mmadaptor.log import warn

from .allowed import DTYPE

WEIGHTS = ('state_dict', 'ema_state_dict')
STATES = ('optimizer', 'param_schedulers')
TYPE = 'mmadaptor type'  # the key by which a dict stands for an object of KINDS
TENSORS = (torch.Tensor, nn.Parameter)
LEAVES = {type(None), bool, int, float, complex, str, bytes, bytearray, *TENSORS}
LEAVES |= {torch.dtype, torch.device, torch.layout, torch.Size}
KEYS = {type(None), bool, int, float, complex, str, bytes, torch.device}
DICTS = (dict, OrderedDict, Counter)
# What a subclass is saved as; a bool is an int.
BASES = (int, float, complex, str, bytes, bytearray, list, tuple, set)
FACTORIES = {kind.__name__: kind for kind in (dict, float, int, list, set, str)}
LONGEST = 1_000_000  # numbers of a range
SHOWN = 5
DEEPEST = 50  # objects in each other; the reader takes twice as many


class _Kind(NamedTuple):
    """A type that is saved as plain values, and made from them again."""

    type: type
    state: Callable[[Any], Any]
    make: Callable[[Any], Any]
    # In `meta`, which other programs read; None: the state.
    shown: Callable[[Any], Any] | None = None


def _of_arguments(kind: type, state: Callable, shown: Callable) -> _Kind:
    """Return a kind whose state is the arguments of its type."""
    return _Kind(kind, state, lambda arguments: kind(*arguments), shown)


def _items(numbers: range) -> list | str:
    return list(numbers) if numbers == numbers[:LONGEST] else str(numbers)


def _state_of_history(history: HistoryBuffer) -> dict:
    values, counts = map(torch.tensor, history.data)
    return dict(values=values, counts=counts, max_length=history.max_length)


def _history(state: dict) -> HistoryBuffer:
    # On an accelerator if the checkpoint was read into its memory.
    values, counts = (state[name].cpu().numpy() for name in ('values', 'counts'))
    length = state['max_length']
    if values.ndim != 1 or values.shape != counts.shape:
        raise ValueError('expected two lists of numbers of equal length')
    if type(length) is not int or length < 1:
        raise ValueError(f'expected a max_length above 0, got {length!r}')
    return HistoryBuffer(values, counts, length)


KINDS = [
    _Kind(Path, str, Path),
    _Kind(PurePath, str, PurePath),
    *(
        _Kind(kind, kind.isoformat, kind.fromisoformat)
        for kind in (datetime.date, datetime.time, datetime.datetime)
    ),
    _of_arguments(
        datetime.timedelta, attrgetter('days', 'seconds', 'microseconds'), str
    ),
    _of_arguments(range, attrgetter('start', 'stop', 'step'), _items),
    _of_arguments(slice, attrgetter('start', 'stop', 'step'), str),
    _of_arguments(deque, lambda items: (list(items), items.maxlen), list),
    _Kind(frozenset, list, frozenset, set),
    _Kind(
        defaultdict,
        lambda node: (getattr(node.default_factory, '__name__', None), dict(node)),
        lambda state: defaultdict(FACTORIES.get(state[0]), state[1]),
        dict,
    ),
    _Kind(HistoryBuffer, _state_of_history, _history),
]
BY_TYPE = {kind.type: kind for kind in KINDS}
BY_NAME = {kind.type.__name__: kind for kind in KINDS}
TOLD: set[str] = set()


def make_plain(checkpoint: dict) -> None:
    """Replace what weights-only reading refuses with plain values, in place.

    The types of :data:`KINDS` are made again by :func:`restore`, except in `meta`,
    where a path becomes text. Other types are saved as a value, or if there is none
    as text, and the log names them once. In states of optimizers and schedules, which
    would continue from another one, such an object stays.

    Args:
        checkpoint: What a runner of mmengine is about to save. The objects in it
            stay as they are.
    """
    writer = _Writer()
    for key in checkpoint.keys() - set(WEIGHTS):
        writer.part = key
        checkpoint[key] = writer.plain(checkpoint[key], key)
    new = [text for where, text in writer.changed.items() if where not in TOLD]
    TOLD.update(writer.changed)
    if new:
        more = [f'and {len(new) - SHOWN} more'] * (len(new) > SHOWN)
        title = 'Checkpoints hold plain values only. A resumed training gets:'
        warn('\n  '.join([title, *new[:SHOWN], *more]))


class _Writer:
    """Makes objects plain; names those whose type is lost."""

    def __init__(self) -> None:
        self.part = ''
        self.above: set[int] = set()  # what an object is in
        self.changed: dict[str, str] = {}

    def _lossy(self, node: Any, value: Any, where: str) -> Any:
        text = f'{type(node).__qualname__} {_text(node)}'
        if self.part in STATES:
            self.changed[where] = f'an error: {where} is the {text}'
            return node
        self.changed[where] = f'{where} as {_text(value)}, in place of the {text}'
        return value

    def plain(self, node: Any, where: str) -> Any:
        """Return an object as plain values: itself, if it is plain."""
        if type(node) in LEAVES or _is_plain_array(node):
            return node
        if len(self.above) > DEEPEST or id(node) in self.above:
            return self._lossy(node, _text(node), where)
        self.above.add(id(node))
        try:
            return self._compound(node, where)
        finally:
            self.above.discard(id(node))

    def _compound(self, node: Any, where: str) -> Any:
        kind = next((k for k in (Path, PurePath) if isinstance(node, k)), type(node))
        if kind in BY_TYPE:
            return self._of_kind(BY_TYPE[kind], node, where)
        if isinstance(node, np.generic):
            return self.plain(_number(node), where)
        if kind is argparse.Namespace and not any(k[:1] == '_' for k in vars(node)):
            return argparse.Namespace(**self.plain(vars(node), where))
        if isinstance(node, Mapping):
            return self._of_dict(node, where)
        if kind in (list, tuple):
            parts = [self.plain(p, f'{where}.{i}') for i, p in enumerate(node)]
            same = all(a is b for a, b in zip(parts, node, strict=True))
            return node if same else kind(parts)
        if kind is set:
            return {self._key(part, where) for part in node}
        return self._lossy(node, self.plain(_value(node), where), where)

    def _of_kind(self, kind: _Kind, node: Any, where: str) -> Any:
        if self.part == 'meta':
            return self.plain((kind.shown or kind.state)(node), where)
        state = self.plain(kind.state(node), where)
        # These have had a form of their own from the start.
        log = kind.type is HistoryBuffer and '.log_scalars.' in where
        return state if log else {TYPE: kind.type.__name__, 'state': state}

    def _of_dict(self, node: Mapping, where: str) -> dict:
        pairs = {
            self._key(key, where): self.plain(value, f'{where}.{key}')
            for key, value in node.items()
        }
        if type(node) not in DICTS:
            return pairs
        same = all(key in pairs and pairs[key] is node[key] for key in node)
        return node if same else type(node)(pairs)

    def _key(self, key: Any, where: str) -> Any:
        if isinstance(key, np.generic):
            key = key.item()
        if isinstance(key, tuple):
            return tuple(self._key(part, where) for part in key)
        if type(key) in KEYS:
            return key
        value = str(key) if isinstance(key, PurePath) else _text(key)
        return self._lossy(key, value, f'{where}, the key {_text(key)}')


def _is_plain_array(node: Any) -> bool:
    """Return whether an array or a dtype of numpy is one that is read."""
    dtype = node.dtype if type(node) is np.ndarray else node
    return isinstance(dtype, np.dtype) and bool(DTYPE.fullmatch(dtype.str[1:]))


def _number(scalar: np.generic) -> Any:
    """Return a scalar of numpy as one of Python, which may have fewer digits."""
    value = scalar.item()
    if isinstance(value, np.generic):
        return complex(scalar) if scalar.dtype.kind == 'c' else float(scalar)
    return value


def _value(node: Any) -> Any:
    """Return what is nearest to an object of another type: a value or a text."""
    if isinstance(node, torch.Tensor):
        return node.as_subclass(torch.Tensor)
    if type(node) is np.ndarray:
        return node.tolist()
    if isinstance(node, np.ndarray):
        return np.asarray(node)
    if isinstance(node, np.dtype):
        return str(node)
    if isinstance(node, enum.Enum):
        return node.value
    return next((base for base in BASES if isinstance(node, base)), _text)(node)


def _text(node: Any) -> str:
    try:
        return f'{node!r:.80}'
    except Exception:
        return object.__repr__(node)


def restore(checkpoint: dict) -> None:
    """Restore what :func:`make_plain` replaced, in place.

    Args:
        checkpoint: The content of a file to resume from. One of mmengine itself
            stays as it is.

    Raises:
        DamagedFileError: The state of an object has another form.
    """
    for key in checkpoint.keys() - {*WEIGHTS, 'meta'}:
        checkpoint[key] = _restored(checkpoint[key], key)
    scalars = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    for name, saved in scalars.items():
        if isinstance(saved, dict):
            scalars[name] = _made('HistoryBuffer', saved, f'The history of {name}')


def _restored(node: Any, where: str) -> Any:
    if isinstance(node, dict) and node.keys() == {TYPE, 'state'}:
        name, state = str(node[TYPE]), _restored(node['state'], where)
        return _made(name, state, where) if name in BY_NAME else node
    if isinstance(node, dict | argparse.Namespace):
        values = node if isinstance(node, dict) else vars(node)
        for key, value in values.items():
            values[key] = _restored(value, f'{where}.{key}')
    elif type(node) in (list, tuple):
        return type(node)(_restored(p, f'{where}.{i}') for i, p in enumerate(node))
    return node


def _made(name: str, state: Any, where: str) -> Any:
    try:
        return BY_NAME[name].make(state)
    except Exception as error:  # whatever another state leads to
        text = f'{where} in the checkpoint is no state of a {name}: {error}.'
        raise DamagedFileError(text) from error
