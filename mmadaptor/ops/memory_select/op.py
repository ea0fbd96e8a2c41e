# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T's gather: the public function and its gradients."""

import torch
from torch import Tensor

from mmadaptor.ops import _extension
from mmadaptor.ops._gradients import register_gradient


def memory_select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """For each token the weighted sum of the states at a few places.

    The channels are S groups of D/S neighbours; each group has places of its
    own. A place lies between pixels and is read bilinearly; outside the map
    the states count as zero. Forward and backward are deterministic, whatever
    the number of threads.

    Args:
        states: Maps of states, `(B, H, W, K, D, N)`, one for each of K
            directions; float32 or float64.
        locations: Places, `(B, H, W, K, S, P, 2)` as (row, column) in pixels,
            whole numbers being pixel centres; states' dtype. S divides D. A
            location that is not finite gives NaN, to its token's group and to
            the gradients of that location and its weight.
        weights: Their weights, `(B, H, W, K, S, P)`, states' dtype.

    Returns:
        The sums, `(B, H, W, K, D, N)`, contiguous, in states' dtype, with
        gradients to all three arguments.

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came. Under autocast
            locations and weights of any float dtype are cast to states'.
        RuntimeError: If the compiled ops are not built.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-T; bilinear places in pixels
        are our choice.
    """
    _extension.require()
    return torch.ops.mmadaptor.memory_select(states, locations, weights)


register_gradient('memory_select')
