# SPDX-License-Identifier: Apache-2.0
"""The block of VMamba, and the convolutions before each stage."""

import itertools

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..arguments import scaled_channels
from .drop_path import DropPath
from .last_reset import LastReset
from .linear import apply_linear
from .norm import build_norm
from .ss2d import SS2D


class Downsample(nn.Sequential):
    """3x3 convolutions with stride 2 on channels-last maps, each with a norm.

    The convolutions are torch's own, so that LoRA and others that replace or extend
    them know them. Between two of them is a GELU.

    Args:
        channels: Channels of the input and of the output of each convolution.
        norm_cfg: Config of the normalization over channels.

    Source:
        VMamba (arXiv 2401.10166), stem and downsampling.
    """

    def __init__(self, *channels: int, norm_cfg: dict | None = None) -> None:
        layers = []
        for narrow, wide in itertools.pairwise(channels):
            conv = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
            layers += [conv, build_norm(norm_cfg, wide), nn.GELU()]
        super().__init__(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Halve the sides of a map by each convolution, rounded up.

        Args:
            x: `(B, H, W, C)`, of the first of `channels`.

        Returns:
            `(B, ceil(H / 2), ceil(W / 2), C')` after one convolution.
        """
        for i, layer in enumerate(self):
            if i % 3 == 0:  # a convolution, or what replaced it
                x = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            else:
                x = layer(x)
        return x


class Perceptron(nn.Sequential):
    """Two linear layers with an activation between them, on channels-last maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers.

        Args:
            x: `(B, H, W, C)`.

        Returns:
            `(B, H, W, C)`.
        """
        first, activation, second = self
        return apply_linear(second, activation(apply_linear(first, x)))


class VMambaBlock(nn.Module):
    """A token mixer and a two-layer perceptron, each on a normalized residual branch.

    Args:
        channels: Channels of the map, C.
        mlp_ratio: Ratio of hidden channels of the perceptron to `channels`.
        drop_path_rate: Probability of dropping a residual branch.
        with_cp: Whether to recompute the block in the backward pass.
        norm_cfg: Config of the normalization over channels.
        mixer: Further arguments of :class:`~mmadaptor.models.layers.SS2D`.

    Source:
        VMamba (arXiv 2401.10166), VSS block.
    """

    def __init__(
        self,
        channels: int,
        mlp_ratio: float,
        drop_path_rate: float,
        with_cp: bool,
        norm_cfg: dict | None,
        mixer: dict,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm1 = build_norm(norm_cfg, channels)
        self.mixer = SS2D(channels, norm_cfg=norm_cfg, **mixer)
        self.norm2 = build_norm(norm_cfg, channels)
        hidden = scaled_channels('mlp_ratio', mlp_ratio, channels)
        self.mlp = Perceptron(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )
        self.drop_path = DropPath(drop_path_rate)
        self.last_reset = LastReset(self.reset_parameters)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the perceptron; other layers have methods of their own."""
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def _forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mixer(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: `(B, H, W, C)`.

        Returns:
            `(B, H, W, C)`.
        """
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)
