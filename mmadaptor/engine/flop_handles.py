# SPDX-License-Identifier: Apache-2.0
"""mmengine's counter told of the ops; torch's own is told in `ops/flops.py`."""

from collections.abc import Callable

import torch
from mmengine.analysis.complexity_analysis import _DEFAULT_SUPPORTED_FLOP_OPS
from mmengine.analysis.jit_handles import get_shape

from mmadaptor.ops.flops import MULTIPLY_ADDS


def _shape(argument: torch._C.Value) -> list:
    """A tensor's shape, or a list's elements, of which the number counts."""
    if argument.type().kind() == 'ListType':
        return list(argument.node().inputs())
    return get_shape(argument)


def _handle(count: Callable[..., int]) -> Callable[[list, list], int]:
    """From a function of shapes to one of a traced call's arguments."""

    def handle(inputs: list[torch._C.Value], outputs: list[torch._C.Value]) -> int:
        return count(*map(_shape, inputs))

    return handle


def register_flop_handles() -> None:
    """Let mmengine's complexity analysis count the ops, in multiply-adds.

    `FlopAnalyzer` and `get_model_complexity_info` take their handles from one
    table, to which there is no other way for ops that are not torch's.
    """
    _DEFAULT_SUPPORTED_FLOP_OPS.update(
        {f'mmadaptor::{name}': _handle(count) for name, count in MULTIPLY_ADDS.items()}
    )
