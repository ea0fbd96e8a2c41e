# SPDX-License-Identifier: Apache-2.0
"""A feature pyramid from a single map of a plain backbone, for mmdet."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import check_integer, is_integer
from ..init_cfg import InitializedModule


class PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a `(B, C, H, W)` map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each pixel of a map `(B, C, H, W)`."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class HalfPool(nn.Module):
    """Max pooling to half the size, rounded up.

    `ceil_mode` of torch gives the same, but asks whether the size is odd, so that
    torch.export keeps the answer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool a map `(B, C, H, W)`; an odd last row and column have their own."""
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), 2)


class SimpleFeaturePyramid(InitializedModule):
    """Feature maps at 4, 2, 1 and 1/2 times the input resolution, and smaller.

    Each map is computed from the last map of the backbone by transposed convolutions
    or pooling, followed by a 1x1 and a 3x3 convolution. mmseg has `Feature2Pyramid`.

    Args:
        in_channels: Channels of the map of the backbone.
        out_channels: Channels of the pyramid.
        num_outs: Number of maps. Each beyond four halves the previous one.
        init_cfg: mmengine's initialization config.

    Raises:
        ValueError: `in_channels` is not a multiple of 4, `num_outs` is less than 4, or
            another argument is out of range.

    Source:
        ViTDet (arXiv 2203.16527), simple feature pyramid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not is_integer(in_channels) or in_channels < 1 or in_channels % 4:
            raise ValueError(
                f'`in_channels` must be a multiple of 4, got {in_channels!r}'
            )
        check_integer('out_channels', out_channels)
        check_integer('num_outs', num_outs, 4)
        half, quarter = in_channels // 2, in_channels // 4
        self.num_outs = num_outs
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    PixelNorm(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                nn.Identity(),
                HalfPool(),
            ]
        )
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, bias=False),
                PixelNorm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                PixelNorm(out_channels),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Maps of the backbone. The last one is used,
                `(B, in_channels, H, W)`.

        Returns:
            `num_outs` contiguous maps of `out_channels`, the largest `(4 H, 4 W)`
            first.
        """
        maps = [
            conv(scale(inputs[-1])).contiguous()
            for scale, conv in zip(self.scales, self.convs, strict=True)
        ]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        return tuple(maps)
