"""What the ops cost, for `torch.utils.flop_counter`.

That counter has two operations for each multiply-add, and so do these formulas.
A scan is 9 N + 1 multiply-adds for each step of each channel: the convention of
the published counts.
"""

from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import _extension

Shape = tuple[int, ...]


def scan_multiply_adds(steps: int, states: int) -> int:
    """The published convention for a scan.

    Args:
        steps: Steps of all channels, directions and images.
        states: States of a channel, N.

    Returns:
        Multiply-adds.

    Source:
        VMamba (arXiv 2401.10166), its counts: 9 B L D N + B L D.
    """
    return steps * (9 * states + 1)


def _scan(u: Shape, delta: Shape, A: Shape, *_: Any, **__: Any) -> int:
    return 2 * scan_multiply_adds(prod(delta), A[-1])


def _memory_select(states: Shape, locations: Shape, weights: Shape,
                   *_: Any, **__: Any) -> int:
    """Four pixels for each of P places of each state."""
    return 2 * 4 * weights[-1] * prod(states)


def _readout(states: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(states)


if _extension.PROBLEM is None:
    _ops = torch.ops.mmadaptor
    register_flop_formula([
        _ops.selective_scan, _ops.selective_scan_states,
        _ops.cross_selective_scan, _ops.cross_selective_scan_states
    ])(_scan)
    register_flop_formula(_ops.memory_select)(_memory_select)
    register_flop_formula(_ops.cross_readout)(_readout)
