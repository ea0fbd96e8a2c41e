# SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments of the compiled ops, for their fake kernels.

torch calls a fake kernel for tensors without data (meta and fake tensors). It checks
the arguments and allocates the results. The compiled kernels refuse the same arguments
in fewer words; the functions of `mmadaptor.ops` then show the message from here. All
have the form "selective_scan: `delta` must have shape [2, 8, 16] (that of `u`), got
[2, 8, 15]".
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_WIDE = (torch.float32, torch.float64)


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which kernels accumulate."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name without "torch."."""
    return str(dtype).removeprefix('torch.')


class Check:
    """The checks of one call.

    Args:
        op: Name of the op, for messages.
        device: Device on which all tensors must be.
    """

    def __init__(self, op: str, device: torch.device) -> None:
        self.op = op
        self.device = device

    def refuse(self, what: str) -> None:
        """Raise a ValueError that starts with the op's name."""
        raise ValueError(f'{self.op}: {what}')

    def floating(self, name: str, t: Tensor) -> None:
        """Refuse integers, complex numbers and 8-bit floats."""
        if t.dtype not in _FLOATING:
            self.refuse(
                f'`{name}` must be float32, float64, float16 or bfloat16, got '
                f'{name_of(t.dtype)}'
            )

    def wide(self, name: str, t: Tensor) -> None:
        """Refuse what is not float32 or float64."""
        if t.dtype not in _WIDE:
            self.refuse(f'`{name}` must be float32 or float64, got {name_of(t.dtype)}')

    def dtype(self, name: str, t: Tensor, expected: torch.dtype, why: str) -> None:
        """Refuse another dtype, another device, and tensors that are not dense."""
        if t.dtype != expected:
            self.refuse(
                f'`{name}` must be {name_of(expected)} ({why}), got {name_of(t.dtype)}'
            )
        if t.device != self.device:
            self.refuse(
                f'`{name}` must be on {self.device} like the first argument, got '
                f'{t.device}'
            )
        if t.layout != torch.strided:
            self.refuse(f'`{name}` must be a dense tensor, got {t.layout}')

    def rank(self, name: str, t: Tensor, expected: int, meaning: str) -> None:
        """Refuse another number of dimensions."""
        if t.dim() != expected:
            self.refuse(
                f'`{name}` must have {expected} dimensions {meaning}, got shape '
                f'{list(t.shape)}'
            )

    def shape(self, name: str, t: Tensor, expected: Iterable, meaning: str) -> None:
        """Refuse another shape."""
        expected = list(expected)
        if t.dim() != len(expected) or any(
            size != other for size, other in zip(t.shape, expected, strict=True)
        ):
            self.refuse(
                f'`{name}` must have shape {expected} {meaning}, got {list(t.shape)}'
            )

    def not_empty(self, name: str, t: Tensor, meanings: Sequence[str | None]) -> None:
        """Refuse size 0 in each dimension that has a meaning here."""
        for dim, meaning in enumerate(meanings):
            if meaning is not None and t.shape[dim] == 0:
                self.refuse(f'`{name}` has no {meaning}, got shape {list(t.shape)}')
