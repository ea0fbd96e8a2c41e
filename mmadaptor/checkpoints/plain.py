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
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmadaptor.errors import DamagedFileError
from mmadaptor.log import warn

from .allowed import DTYPE

ARRAYS = ('values', 'counts')
WEIGHTS = ('state_dict', 'ema_state_dict')
STATES = ('optimizer', 'param_schedulers')
TYPE = 'mmadaptor type'  # the key by which a dict stands for an object of KINDS
TENSORS = (torch.Tensor, nn.Parameter)
LEAVES = {type(None), bool, int, float, complex, str, bytes, bytearray, *TENSORS}
LEAVES |= {torch.dtype, torch.device, torch.layout, torch.Size}
KEYS = {type(None), bool, int, float, complex, str, bytes, torch.device, torch.Size}
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


def _state_of_history(history: HistoryBuffer) -> dict:
    arrays = zip(ARRAYS, history.data, strict=True)
    tensors = {name: torch.tensor(array) for name, array in arrays}
    return dict(tensors, max_length=history.max_length)


def _items(numbers: range) -> list | str:
    return list(numbers) if numbers == numbers[:LONGEST] else str(numbers)


KINDS = {
    'Path': _Kind(Path, str, Path),
    'PurePath': _Kind(PurePath, str, PurePath),
    'date': _Kind(datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    'time': _Kind(datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    'datetime': _Kind(
        datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat
    ),
    'timedelta': _Kind(
        datetime.timedelta,
        lambda time: (time.days, time.seconds, time.microseconds),
        lambda state: datetime.timedelta(*state),
        str,
    ),
    'range': _Kind(
        range,
        lambda numbers: (numbers.start, numbers.stop, numbers.step),
        lambda state: range(*state),
        _items,
    ),
    'slice': _Kind(
        slice,
        lambda part: (part.start, part.stop, part.step),
        lambda state: slice(*state),
        str,
    ),
    'frozenset': _Kind(frozenset, list, frozenset, set),
    'deque': _Kind(
        deque,
        lambda items: (list(items), items.maxlen),
        lambda state: deque(*state),
        list,
    ),
    'defaultdict': _Kind(
        defaultdict,
        lambda node: (getattr(node.default_factory, '__name__', None), dict(node)),
        lambda state: defaultdict(FACTORIES.get(state[0]), state[1]),
        dict,
    ),
    'HistoryBuffer': _Kind(
        HistoryBuffer, _state_of_history, lambda state: _history(state, 'a history')
    ),
}
NAMES = {kind.type: name for name, kind in KINDS.items()}
TOLD: set[str] = set()


def make_plain(checkpoint: dict) -> None:
    """Replace what is not read again by plain values, in place.

    The types of :data:`KINDS` are made again by :func:`restore`, except in `meta`,
    where a path is a text. Of any other type the value, or if there is none its text,
    is saved, and the log names it, once. In states of optimizers and schedules, which
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

    def plain(self, node: Any, where: str, depth: int = 0) -> Any:
        """Return an object as plain values: itself, if it is plain."""
        kind = type(node)
        if kind in LEAVES:
            return node
        if depth > DEEPEST or id(node) in self.above:
            return self._lossy(node, _text(node), where)
        self.above.add(id(node))
        try:
            return self._compound(node, kind, where, depth)
        finally:
            self.above.discard(id(node))

    def _compound(self, node: Any, kind: type, where: str, depth: int) -> Any:
        if isinstance(node, np.generic | np.ndarray | np.dtype | torch.Tensor):
            return self._of_numbers(node, where, depth)
        name = 'Path' if isinstance(node, Path) else NAMES.get(kind)
        name = name or ('PurePath' if isinstance(node, PurePath) else None)
        if name:
            return self._of_kind(KINDS[name], name, node, where, depth)
        if kind is argparse.Namespace and not any(k[:1] == '_' for k in vars(node)):
            return argparse.Namespace(**self.plain(vars(node), where, depth + 1))
        if isinstance(node, Mapping):
            return self._of_dict(node, where, depth)
        if kind in (list, tuple):
            parts = [self.plain(p, f'{where}.{i}', depth + 1) for i, p in _pairs(node)]
            same = all(a is b for a, b in zip(parts, node, strict=True))
            return node if same else kind(parts)
        if kind is set:
            return {self._key(part, where) for part in node}
        return self._of_others(node, where, depth)

    def _of_kind(
        self, kind: _Kind, name: str, node: Any, where: str, depth: int
    ) -> Any:
        if self.part == 'meta':
            return self.plain((kind.shown or kind.state)(node), where, depth + 1)
        state = self.plain(kind.state(node), where, depth + 1)
        # These have had a form of their own from the start.
        log = name == 'HistoryBuffer' and '.log_scalars.' in where
        return state if log else {TYPE: name, 'state': state}

    def _of_dict(self, node: Mapping, where: str, depth: int) -> dict:
        pairs = {
            self._key(key, where): self.plain(value, f'{where}.{key}', depth + 1)
            for key, value in node.items()
        }
        if type(node) not in DICTS:
            return pairs
        same = all(key in pairs and pairs[key] is node[key] for key in node)
        return node if same else type(node)(pairs)

    def _key(self, key: Any, where: str) -> Any:
        if isinstance(key, np.generic):
            key = key.item()
        if isinstance(key, tuple) and type(key) is not torch.Size:
            return tuple(self._key(part, where) for part in key)
        if type(key) in KEYS:
            return key
        value = str(key) if isinstance(key, PurePath) else _text(key)
        return self._lossy(key, value, f'{where}, the key {_text(key)}')

    def _of_numbers(self, node: Any, where: str, depth: int) -> Any:
        if isinstance(node, torch.Tensor):
            return self._lossy(node, node.as_subclass(torch.Tensor), where)
        dtype = node if isinstance(node, np.dtype) else node.dtype
        readable = DTYPE.fullmatch(dtype.str[1:]) and dtype.names is None
        if isinstance(node, np.generic):
            value = node.item()
            if isinstance(value, np.generic):  # longer than Python's
                value = complex(node) if dtype.kind == 'c' else float(node)
            return self.plain(value, where, depth + 1)
        if not readable:
            value = str(node) if node is dtype else node.tolist()
            return self._lossy(node, self.plain(value, where, depth + 1), where)
        if isinstance(node, np.ndarray) and type(node) is not np.ndarray:
            return self._lossy(node, np.asarray(node), where)
        return node

    def _of_others(self, node: Any, where: str, depth: int) -> Any:
        if isinstance(node, enum.Enum):
            value = node.value
        else:
            base = next((base for base in BASES if isinstance(node, base)), _text)
            value = base(node)
        return self._lossy(node, self.plain(value, where, depth + 1), where)


def _text(node: Any) -> str:
    try:
        return f'{node!r:.80}'
    except Exception:
        return object.__repr__(node)


def _pairs(node: list | tuple) -> list[tuple[int, Any]]:
    return list(enumerate(node))


def restore(checkpoint: dict) -> None:
    """Make what :func:`make_plain` replaced again, in place.

    Args:
        checkpoint: The content of a file to resume from. One of mmengine itself
            stays as it is.

    Raises:
        DamagedFileError: The state of an object has another form.
    """
    for key in checkpoint.keys() - {*WEIGHTS, 'meta'}:
        checkpoint[key] = _restored(checkpoint[key], key)
    restore_histories(checkpoint)


def _restored(node: Any, where: str) -> Any:
    if isinstance(node, dict) and node.keys() == {TYPE, 'state'}:
        kind = KINDS.get(str(node[TYPE]))
        state = _restored(node['state'], where)
        try:
            return node if kind is None else kind.make(state)
        except (
            TypeError,
            ValueError,
            OverflowError,
            LookupError,
            AttributeError,
        ) as error:
            text = f'{where} in the checkpoint is no state of a {node[TYPE]}: {error}.'
            raise DamagedFileError(text) from error
    if isinstance(node, dict | argparse.Namespace):
        values = node if isinstance(node, dict) else vars(node)
        for key, value in values.items():
            values[key] = _restored(value, f'{where}.{key}')
    elif type(node) in (list, tuple):
        return type(node)(_restored(p, f'{where}.{i}') for i, p in _pairs(node))
    return node


def restore_histories(checkpoint: dict) -> None:
    """Make the histories of the logs again, in place.

    Args:
        checkpoint: As in :func:`restore`.

    Raises:
        DamagedFileError: A history is not made of two lists of numbers.
    """
    scalars = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    for name, saved in scalars.items():
        if isinstance(saved, dict):
            scalars[name] = _history(saved, f'The history of {name} in the checkpoint')


def _history(saved: dict, name: str) -> HistoryBuffer:
    arrays = [saved.get(key) for key in ARRAYS]
    length = saved.get('max_length')
    if (
        not all(isinstance(a, torch.Tensor) and a.ndim == 1 for a in arrays)
        or len(arrays[0]) != len(arrays[1])
        or type(length) is not int
        or length < 1
    ):
        raise DamagedFileError(f'{name} is not two lists of numbers of equal length.')
    # On an accelerator if the checkpoint was read into its memory.
    values, counts = (array.cpu().numpy() for array in arrays)
    return HistoryBuffer(values, counts, length)
