# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint may hold besides tensors and plain containers.

mmengine's list of safe globals has `getattr`, `numpy.ndarray` and
`HistoryBuffer`. With `getattr` a file calls what it likes; with
`numpy.ndarray` it reads memory at an address of its choice; and the state of a
`HistoryBuffer` goes into a table that all buffers share. So none of them is
called. A file gets the stand-ins below, which take its numbers after checking
them, and become an object of the type that was saved.
"""

import argparse
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np
import torch

from mmadaptor.environment import has_code

# Booleans, integers, floating-point and complex numbers, bytes and text.
DTYPE = re.compile(r'(b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9]\d{0,5})')
LOCK = RLock()


def expect(holds: bool, what: str) -> None:
    """Refuse a file whose objects have another state than numpy's or mmengine's."""
    if not holds:
        raise pickle.UnpicklingError(f'GLOBAL {what} was not an allowed global')


class SavedDtype:
    """A dtype as numpy pickles it: a code, then its byte order as the state."""

    def __init__(self, code: str, align: Any = False, copy: Any = True) -> None:
        expect(type(code) is str, 'numpy.dtype')
        expect(DTYPE.fullmatch(code) is not None, f'numpy.dtype({code[:9]!r})')
        self.code, self.order = code, '='

    def __setstate__(self, state: tuple) -> None:
        fits = type(state) is tuple and len(state) in (8, 9)
        # The order, and neither a subarray nor names, fields or metadata.
        fits = fits and state[1] in ('<', '>', '|', '=')
        expect(fits and state[2:5] == (None,) * 3 and not any(state[8:]), 'numpy.dtype')
        self.order = state[1]

    def numpy(self) -> np.dtype:
        """Return the dtype."""
        return np.dtype(self.order + self.code)


class SavedArray(np.ndarray):
    """An array whose state was checked."""

    def __new__(cls) -> 'SavedArray':  # noqa: D102
        return super().__new__(cls, 0)

    def __setstate__(self, state: tuple) -> None:
        fits = type(state) is tuple and len(state) == 5
        expect(fits and isinstance(state[2], SavedDtype), 'numpy.ndarray')
        _, shape, dtype, _, data = state
        dtype = dtype.numpy()
        fits = type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)
        fits = fits and type(data) in (bytes, bytearray) and not dtype.hasobject
        expect(fits and len(data) == math.prod(shape) * dtype.itemsize, 'numpy.ndarray')
        super().__setstate__((1, shape, dtype, bool(state[3]), bytes(data)))


def saved_array(kind: Any, shape: Any, code: Any) -> SavedArray:
    """Stand in for numpy's `_reconstruct`."""
    expect(kind is SavedArray, 'numpy.ndarray')
    return SavedArray()


def saved_scalar(dtype: SavedDtype, data: bytes) -> Any:
    """Stand in for numpy's `scalar`."""
    expect(isinstance(dtype, SavedDtype) and type(data) is bytes, 'numpy.scalar')
    kind = dtype.numpy()
    expect(len(data) == kind.itemsize > 0, 'numpy.scalar')
    return np.frombuffer(data, kind)[0]


class SavedHistory:
    """A history of mmengine's logs."""

    def __init__(self) -> None:
        self.values, self.counts = np.empty(0), np.empty(0)
        self.length = 1000000

    def __setstate__(self, state: dict) -> None:
        expect(type(state) is dict, 'HistoryBuffer')
        values, counts = state.get('_log_history'), state.get('_count_history')
        length = state.get('max_length', 1000000)
        fits = all(
            isinstance(array, SavedArray)
            and array.ndim == 1
            and array.dtype.kind in 'biuf'
            for array in (values, counts)
        )
        expect(fits and len(values) == len(counts), 'HistoryBuffer')
        expect(type(length) is int and length > 0, 'HistoryBuffer')
        self.values, self.counts, self.length = (
            np.array(values),
            np.array(counts),
            length,
        )

    def history(self) -> Any:
        """Return mmengine's `HistoryBuffer`, or a dict if mmengine is missing."""
        if not has_code('mmengine'):
            return dict(values=self.values, counts=self.counts, max_length=self.length)
        from mmengine.logging import HistoryBuffer

        return HistoryBuffer(self.values, self.counts, self.length)


class SavedNamespace(argparse.Namespace):
    """Arguments of a command line."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: dict) -> None:
        fits = type(state) is dict and all(
            type(key) is str and not key.startswith('_') for key in state
        )
        expect(fits, 'argparse.Namespace')
        self.__dict__.update(state)
        self.__class__ = argparse.Namespace


class SavedNode:
    """Stands in for yacs's `CfgNode`, which VMamba's own trainings save.

    It becomes an `OrderedDict`, which may get items and attributes and calls nothing.
    """

    def __new__(cls) -> OrderedDict:  # noqa: D102
        return OrderedDict()


def saved_statistic(kind: Any, name: Any) -> None:
    """Stand in for `getattr`, by which a history names its statistics."""
    fits = kind is SavedHistory and type(name) is str and not name.startswith('_')
    expect(fits, 'getattr')


def no_bytes() -> bytes:
    """Stand in for `bytes`, by which the data of an empty array is pickled."""
    return b''


def saved_config(content: Any = None) -> dict:
    """Stand in for mmengine's `ConfigDict`, in which data sets have their names."""
    expect(content is None or type(content) is dict, 'mmengine.ConfigDict')
    return content or {}


ALLOWED = [
    (SavedDtype, 'numpy.dtype'),
    (SavedArray, 'numpy.ndarray'),
    (saved_array, 'numpy.core.multiarray._reconstruct'),
    (saved_array, 'numpy._core.multiarray._reconstruct'),
    (saved_scalar, 'numpy.core.multiarray.scalar'),
    (saved_scalar, 'numpy._core.multiarray.scalar'),
    (SavedHistory, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (saved_statistic, 'builtins.getattr'),
    (SavedNamespace, 'argparse.Namespace'),
    (saved_config, 'mmengine.config.config.ConfigDict'),
    (SavedNode, 'yacs.config.CfgNode'),
    (slice, 'builtins.slice'),
    (no_bytes, 'builtins.bytes'),
]


def name_of(entry: Any) -> str:
    """Return the name by which a file names an entry of torch's list."""
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


@contextmanager
def allowed_objects() -> Iterator[None]:
    """Let torch's weights-only reading call the stand-ins.

    What the program itself has allowed by `torch.serialization.add_safe_globals`
    stays allowed, unless there is a stand-in for it. The list is torch's and
    that of all threads.
    """
    names = {name for _, name in ALLOWED}
    with LOCK:
        before = torch.serialization.get_safe_globals()
        hidden = [entry for entry in before if name_of(entry) in names]
        _replace(hidden, ALLOWED)
        try:
            yield
        finally:
            _replace(ALLOWED, hidden)


def _replace(old: list, new: list) -> None:
    """Exchange entries of torch's list; others may have changed it meanwhile."""
    kept = [e for e in torch.serialization.get_safe_globals() if e not in old]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*kept, *new])


def plain(node: Any, seen: set[int] | None = None) -> Any:
    """Replace the stand-ins for arrays, dtypes and histories, in place."""
    seen = set() if seen is None else seen
    if isinstance(node, SavedHistory):
        return node.history()
    if isinstance(node, SavedDtype):
        return node.numpy()
    if isinstance(node, SavedArray):
        return node.view(np.ndarray)
    if type(node) is tuple:
        parts = [plain(part, seen) for part in node]
        same = all(a is b for a, b in zip(parts, node, strict=True))
        return node if same else tuple(parts)
    if id(node) not in seen and isinstance(node, dict | list | argparse.Namespace):
        seen.add(id(node))
        into = vars(node) if isinstance(node, argparse.Namespace) else node
        pairs = enumerate(into) if isinstance(into, list) else list(into.items())
        for key, value in pairs:
            into[key] = plain(value, seen)
    return node
