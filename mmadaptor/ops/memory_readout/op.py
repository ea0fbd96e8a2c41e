# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T in one pass: the public function and its gradients."""

import torch
from torch import Tensor

from mmadaptor.ops._dispatch import register_autocast, to_dtype_of_first
from mmadaptor.ops._gradients import differentiable, register_gradient

from . import fake, reference  # noqa: F401


@differentiable(reference.memory_readout)
def memory_readout(
    values: Tensor, predicted: Tensor, granularities: list[float], coefficients: Tensor
) -> Tensor:
    """Read values at a few places per token and sum them over the directions.

    The channels are S groups of D/S consecutive channels. Each group has P places
    per token, given by their offsets from the token and their logits:

    .. code-block:: text

        p = grid + r_s offset              (row, column) in pixels
        w = softmax_P(logit)
        y = sum_k c_k sum_p w_p values_k(p)

    It equals :func:`memory_select` followed by :func:`cross_readout` for one state
    per channel, but the memory is never written. Places between pixels, outside the
    map or not finite are treated as in :func:`memory_select`. Forward and backward
    are deterministic for any number of threads.

    Args:
        values: Maps `(B, H, W, K, D)`, one for each of K directions; float32 or
            float64.
        predicted: Offsets of all places, (row, column) in units of the group's
            granularity, followed by their logits: `(B, H, W, K, 3 S P)`, as
            `(S, P, 2)` and `(S, P)`; dtype of values.
        granularities: Unit `r_s` of the offsets of each group in pixels, S numbers.
            S divides D.
        coefficients: Output coefficients `(B, H, W, K)`, dtype of values.

    Returns:
        The sums `(B, H, W, D)`, contiguous, in the dtype of values, with gradients
        for values, predicted and coefficients.

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import memory_readout
        >>> values = torch.arange(4.0).view(1, 1, 4, 1, 1)  # a row of 4 pixels
        >>> predicted = torch.tensor([0.0, 1.0, 0.0])  # one pixel to the right
        >>> predicted = predicted.expand(1, 1, 4, 1, 3)
        >>> memory_readout(values, predicted, [1.0], torch.ones(1, 1, 4, 1)).flatten()
        tensor([1., 2., 3., 0.])

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-T. Bilinear places in pixels
        are our choice.
    """
    return torch.ops.mmadaptor.memory_readout(
        values, predicted, granularities, coefficients
    )


register_autocast('memory_readout', to_dtype_of_first)
register_gradient('memory_readout', reference.memory_readout)
