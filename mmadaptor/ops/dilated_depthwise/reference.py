# SPDX-License-Identifier: Apache-2.0
"""Reference: torch's own depthwise convolutions, one for each dilation."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """Compute the sum; see :func:`mmadaptor.ops.dilated_depthwise`.

    Args:
        y: `(B, H, W, D)`.
        kernels: `(R, D, 3, 3)`.
        dilations: R numbers.

    Returns:
        `(B, H, W, D)`.
    """
    maps = y.to(kernels.dtype).permute(0, 3, 1, 2)  # (B, D, H, W), channels_last
    total = maps
    for kernel, r in zip(kernels.unsqueeze(2), dilations, strict=True):
        # kernel: (D, 1, 3, 3)
        total = total + F.conv2d(
            maps, kernel, padding=r, dilation=r, groups=kernel.shape[0]
        )
    return total.permute(0, 2, 3, 1).to(y.dtype)
