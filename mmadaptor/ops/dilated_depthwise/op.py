# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of several dilations: the function, its gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops import _extension


def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """A map, plus its 3x3 depthwise convolutions with several dilations.

    .. code-block:: text

        y = y + sum_r DWConv3x3_r(y)        r the dilation

    Outside the map counts as zero. One pass reads y and writes the sum;
    forward and backward are deterministic, whatever the number of threads.

    Args:
        y: The map, channels last, `(B, H, W, D)`; float32, float64, float16 or
            bfloat16, summed in float32 at least. Under autocast it is taken as
            it is.
        kernels: For each dilation and channel 3x3 numbers, `(R, D, 3, 3)`;
            float32 (float64 with a float64 y).
        dilations: The R dilations, in pixels; 16 at most.

    Returns:
        `(B, H, W, D)` in y's dtype, contiguous, with gradients to y and
        kernels.

    Raises:
        ValueError: For a wrong shape, dtype, device or dilation; the message
            names the argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-S.
    """
    _extension.require()
    return torch.ops.mmadaptor.dilated_depthwise(y, kernels, dilations)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    y, kernels, ctx.dilations = inputs
    ctx.save_for_backward(y, kernels)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    grads = torch.ops.mmadaptor.dilated_depthwise_backward(
        grad, *ctx.saved_tensors, ctx.dilations
    )
    return *grads, None


if _extension.PROBLEM is None:
    torch.library.register_autograd(
        'mmadaptor::dilated_depthwise', _backward, setup_context=_setup
    )
