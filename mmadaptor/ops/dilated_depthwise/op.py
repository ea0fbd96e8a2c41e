# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of several dilations: the function and its gradients."""

import torch
from torch import Tensor

from mmadaptor.ops._gradients import differentiable, register_gradient

from . import fake, reference  # noqa: F401


@differentiable(reference.dilated_depthwise)
def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: list[int]) -> Tensor:
    """Add 3x3 depthwise convolutions with several dilations to a map.

    .. code-block:: text

        y = y + sum_r DWConv3x3_r(y)        r the dilation

    The map is padded with zeros. One pass reads y and writes the sum. Forward and
    backward are deterministic for any number of threads.

    Args:
        y: Map, channels last, `(B, H, W, D)`; float32, float64, float16 or
            bfloat16, accumulated in float32 or float64. Autocast leaves its dtype.
        kernels: Kernels `(R, D, 3, 3)`, one for each dilation and channel; float32
            (float64 with a float64 y).
        dilations: R dilations in pixels, 16 at most.

    Returns:
        `(B, H, W, D)` in the dtype of y, contiguous, with gradients for y and
        kernels.

    Raises:
        ValueError: An argument has a wrong shape, dtype, device or value; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import dilated_depthwise
        >>> y = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).view(1, 1, 5, 1)
        >>> dilated_depthwise(y, torch.ones(1, 1, 3, 3), [2]).flatten()
        tensor([1., 0., 2., 0., 1.])

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-S.
    """
    return torch.ops.mmadaptor.dilated_depthwise(y, kernels, dilations)


register_gradient('dilated_depthwise', reference.dilated_depthwise)
