# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T in one pass: the public function and its gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops import _extension


def memory_readout(
    values: Tensor,
    predicted: Tensor,
    granularities: Sequence[float],
    coefficients: Tensor,
) -> Tensor:
    """What each token reads from the values at a few places of its own.

    The channels are S groups of D/S neighbours, each with P places a token,
    whose offsets from the token and logits are given:

    .. code-block:: text

        p = grid + r_s offset              (row, column) in pixels
        w = softmax_P(logit)
        y = sum_k c_k sum_p w_p values_k(p)

    It is :func:`memory_select` and :func:`cross_readout` for states of one
    number a channel. On a CPU neither the memory nor places and weights are
    ever written; on a GPU it is those two, and all of them are. The rules for a
    place that lies between pixels, outside of the map or nowhere are those of
    :func:`memory_select`. Forward and backward are deterministic, whatever the
    number of threads.

    Args:
        values: Maps, `(B, H, W, K, D)`, one for each of K directions; float32
            or float64.
        predicted: At each token and direction the offsets of all places, (row,
            column) in units of the group's granularity, and then their logits:
            `(B, H, W, K, 3 S P)`, as `(S, P, 2)` and `(S, P)`; values' dtype.
        granularities: The unit `r_s` of each group's offsets in pixels, S
            numbers. S divides D.
        coefficients: The readout's, `(B, H, W, K)`, values' dtype.

    Returns:
        The sums, `(B, H, W, D)`, contiguous, in values' dtype, with gradients
        to values, predicted and coefficients.

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came. Under autocast predicted
            and coefficients of any float dtype are cast to values'.
        RuntimeError: If the compiled ops are not built.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-T; bilinear places in pixels
        are our choice.
    """
    _extension.require()
    return torch.ops.mmadaptor.memory_readout(
        values, predicted, granularities, coefficients
    )


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    values, predicted, ctx.granularities, coefficients = inputs
    ctx.save_for_backward(values, predicted, coefficients)


def _backward(ctx: Any, grad_y: Tensor) -> tuple:
    values, predicted, coefficients = ctx.saved_tensors
    grad_values, grad_predicted, grad_coefficients = (
        torch.ops.mmadaptor.memory_readout_backward(
            grad_y, values, predicted, ctx.granularities, coefficients
        )
    )
    return grad_values, grad_predicted, None, grad_coefficients


if _extension.PROBLEM is None:
    torch.library.register_autograd(
        'mmadaptor::memory_readout', _backward, setup_context=_setup
    )
