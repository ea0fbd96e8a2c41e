# SPDX-License-Identifier: Apache-2.0
"""The gather of Adaptor-T: the public function and its gradients."""

import torch
from torch import Tensor

from mmadaptor.ops._dispatch import register_autocast, to_dtype_of_first
from mmadaptor.ops._gradients import differentiable, register_gradient

from . import fake, reference  # noqa: F401


@differentiable(reference.memory_select)
def memory_select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum the states at a few places per token, with weights.

    The channels are S groups of D/S consecutive channels, and each group has its own
    places. States between pixels are interpolated bilinearly, and are zero outside
    the map. Forward and backward are deterministic for any number of threads.

    Args:
        states: Maps of states `(B, H, W, K, D, N)`, one for each of K directions;
            float32 or float64.
        locations: Places `(B, H, W, K, S, P, 2)` as (row, column) in pixels;
            integers are pixel centers. Dtype of states. S divides D. A location
            that is not finite gives NaN in the group of its token and in the
            gradients of that location and its weight.
        weights: Weights `(B, H, W, K, S, P)`, dtype of states.

    Returns:
        The sums `(B, H, W, K, D, N)`, contiguous, in the dtype of states, with
        gradients for all three arguments.

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import memory_select
        >>> states = torch.arange(4.0).view(1, 1, 4, 1, 1, 1)  # a row of 4 pixels
        >>> locations = torch.zeros(1, 1, 4, 1, 1, 1, 2)
        >>> locations[..., 1] = torch.arange(4.0).view(1, 1, 4, 1, 1, 1) + 0.5
        >>> weights = torch.ones(1, 1, 4, 1, 1, 1)
        >>> memory_select(states, locations, weights).flatten()  # zero outside
        tensor([0.5000, 1.5000, 2.5000, 1.5000])

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-T. Bilinear places in pixels
        are our choice.
    """
    return torch.ops.mmadaptor.memory_select(states, locations, weights)


register_autocast('memory_select', to_dtype_of_first)
register_gradient('memory_select', reference.memory_select)
