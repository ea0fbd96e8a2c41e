"""The one form of message for a wrong argument of an op written in Python."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_shape(op: str, name: str, tensor: Tensor, expected: Sequence[int],
                meaning: str) -> None:
    """Raise unless a tensor has this shape.

    Args:
        op: The op's name.
        name: The argument's name.
        tensor: The argument.
        expected: Its shape.
        meaning: What the dimensions are.

    Raises:
        ValueError: Naming argument, expected and got.
    """
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(f'{op}: `{name}` must have shape {list(expected)} '
                         f'{meaning}, got {list(tensor.shape)}')


def check_rank(op: str, name: str, tensor: Tensor, expected: int,
               meaning: str) -> None:
    """Raise unless a tensor has this many dimensions, none but the first 0.

    Args:
        op: The op's name.
        name: The argument's name.
        tensor: The argument.
        expected: The number of dimensions.
        meaning: What they are.

    Raises:
        ValueError: Naming argument, expected and got.
    """
    if tensor.dim() != expected:
        raise ValueError(f'{op}: `{name}` must have {expected} dimensions '
                         f'{meaning}, got shape {list(tensor.shape)}')
    if 0 in tensor.shape[1:]:
        raise ValueError(f'{op}: `{name}` must not be empty but for its batch '
                         f'{meaning}, got shape {list(tensor.shape)}')


def check_dtype(op: str, name: str, tensor: Tensor,
                expected: torch.dtype, why: str) -> None:
    """Raise unless a tensor has this dtype.

    Args:
        op: The op's name.
        name: The argument's name.
        tensor: The argument.
        expected: The dtype.
        why: Where it comes from.

    Raises:
        ValueError: Naming argument, expected and got.
    """
    if tensor.dtype != expected:
        raise ValueError(f'{op}: `{name}` must be {expected} ({why}), got '
                         f'{tensor.dtype}')
