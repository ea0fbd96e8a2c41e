# SPDX-License-Identifier: Apache-2.0
"""VMamba without its scans, as a purely convolutional baseline."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.models import VMamba
from mmadaptor.models.layers import SS2D, VMambaBlock
from mmadaptor.models.layers.linear import apply_linear
from mmadaptor.registry import MODELS


class ConvolutionalMixer(nn.Module):
    """The layers of an SS2D except its scan.

    Args:
        mixer: Its layers are used.

    Raises:
        ValueError: There is an Adaptor-T, which needs the states of a scan.
    """

    def __init__(self, mixer: SS2D) -> None:
        super().__init__()
        if mixer.temporal is not None:
            raise ValueError(
                '`adaptors` of ConvolutionalVMamba must have no `temporal`, which '
                'needs the states of a scan'
            )
        self.in_proj, self.conv = mixer.in_proj, mixer.conv
        self.spatial = mixer.spatial or nn.Identity()
        self.norm, self.out_proj = mixer.norm, mixer.out_proj

    def forward(self, x: Tensor) -> Tensor:
        """Mix the pixels of a map `(B, H, W, C)`."""
        maps = apply_linear(self.in_proj, x).permute(0, 3, 1, 2)  # (B, D, H, W)
        y = self.spatial(F.silu(self.conv(maps)).permute(0, 2, 3, 1))
        return apply_linear(self.out_proj, self.norm(y))


@MODELS.register_module()
class ConvolutionalVMamba(VMamba):
    """VMamba with every scan replaced by the identity.

    Args:
        args: Positional arguments of `VMamba`.
        kwargs: Keyword arguments of `VMamba`.

    Raises:
        ValueError: There is an Adaptor-T, which needs the states of a scan.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, VMambaBlock):
                module.mixer = ConvolutionalMixer(module.mixer)
