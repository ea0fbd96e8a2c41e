# SPDX-License-Identifier: Apache-2.0
"""A feature pyramid from the one map of a plain backbone, for mmdet."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn

from mmadaptor.registry import MODELS


class PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a `(B, C, H, W)` map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel.

        Args:
            x: `(B, C, H, W)`.

        Returns:
            `(B, C, H, W)`.
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps at four times, twice, once and half the resolution, and below.

    Each comes from the last map by transposed convolutions or pooling, then a
    1x1 and a 3x3 convolution. For mmseg there is `Feature2Pyramid`.

    Args:
        in_channels: Channels of the backbone's map.
        out_channels: Channels of the pyramid.
        num_outs: Maps to return; those beyond four halve the one before.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: If `in_channels` cannot be quartered, or `num_outs` is less
            than 4.

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
        if in_channels % 4:
            raise ValueError(
                f'`in_channels` must be a multiple of 4, got {in_channels}'
            )
        if num_outs < 4:
            raise ValueError(f'`num_outs` must be 4 or more, got {num_outs}')
        half, quarter = in_channels // 2, in_channels // 4
        self.num_outs = num_outs
        self.scales = ModuleList(
            [
                Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    PixelNorm(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                nn.Identity(),
                # An odd map's last row and column have a window of their own.
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )
        self.convs = ModuleList(
            Sequential(
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
            inputs: The backbone's maps, of which the last one is taken,
                `(B, in_channels, H, W)`.

        Returns:
            `num_outs` contiguous maps of `out_channels`, sides `4 H` first.
        """
        maps = [
            conv(scale(inputs[-1])).contiguous()
            for scale, conv in zip(self.scales, self.convs, strict=True)
        ]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        return tuple(maps)
