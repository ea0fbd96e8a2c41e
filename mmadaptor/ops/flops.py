# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds of the ops, registered with `torch.utils.flop_counter`.

That counter counts two operations per multiply-add. A scan costs 9 N + 1
multiply-adds per step and channel, the convention of the published counts. A
backward pass counts twice its forward pass: our choice, as in torch for a matrix
product.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import _extension

Shape = tuple[int, ...]


def scan_multiply_adds(steps: int, states: int) -> int:
    """Count a scan by the published convention.

    Args:
        steps: Number of steps of all channels, directions and images.
        states: States per channel, N.

    Returns:
        Multiply-adds.

    Source:
        VMamba (arXiv 2401.10166), its counts: 9 B L D N + B L D.
    """
    return steps * (9 * states + 1)


def _scan(u: Shape, delta: Shape, A: Shape, *_: Any) -> int:
    return scan_multiply_adds(prod(delta), A[-1])


def _memory_select(states: Shape, locations: Shape, weights: Shape) -> int:
    """Count four pixels for each of the P places of each state."""
    return 4 * weights[-1] * prod(states)


def _memory_readout(
    values: Shape, predicted: Shape, granularities: Any, coefficients: Shape
) -> int:
    """Count the gather and the readout."""
    places = predicted[-1] // (3 * len(granularities))
    return (4 * places + 1) * prod(values)


def _readout(states: Shape, *_: Any) -> int:
    return prod(states)


def _dilated_depthwise(y: Shape, kernels: Shape, *_: Any) -> int:
    """Count nine taps per dilation and element, as torch does."""
    return 9 * kernels[0] * prod(y)


MULTIPLY_ADDS: dict[str, Callable[..., int]] = dict(
    selective_scan=_scan,
    selective_scan_states=_scan,
    cross_selective_scan=_scan,
    cross_selective_scan_states=_scan,
    memory_select=_memory_select,
    memory_readout=_memory_readout,
    cross_readout=_readout,
    dilated_depthwise=_dilated_depthwise,
)
"""For each op a function of the shapes of its arguments."""


def _register(name: str, count: Callable[..., int]) -> None:
    """Register an op and its backward pass with torch's counter."""
    forward = getattr(torch.ops.mmadaptor, name)
    backward = getattr(torch.ops.mmadaptor, f'{name}_backward')
    arguments = [a.name for a in backward.default._schema.arguments]
    first = arguments.index(forward.default._schema.arguments[0].name)

    def count_forward(*shapes: Any, **_: Any) -> int:
        return 2 * count(*shapes)

    def count_backward(*shapes: Any, **_: Any) -> int:
        return 4 * count(*shapes[first:])

    register_flop_formula(forward)(count_forward)
    register_flop_formula(backward)(count_backward)


if _extension.PROBLEM is None:
    for _name, _count in MULTIPLY_ADDS.items():
        _register(_name, _count)
