# SPDX-License-Identifier: Apache-2.0
"""The block of Vim."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .bimamba import BiMamba
from .drop_path import DropPath

EPSILON = 1e-5


class VimBlock(nn.Module):
    """A token mixer on a normalized residual branch, without a perceptron.

    Args:
        channels: Channels of the tokens, C.
        drop_path_rate: Probability of dropping the residual branch.
        with_cp: Whether to recompute the block in the backward pass.
        mixer: Further arguments of :class:`~mmadaptor.models.layers.BiMamba`.

    Source:
        Vision Mamba (arXiv 2401.09417).
    """

    def __init__(
        self, channels: int, drop_path_rate: float, with_cp: bool, mixer: dict
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm = nn.RMSNorm(channels, eps=EPSILON)
        self.mixer = BiMamba(channels, **mixer)
        self.drop_path = DropPath(drop_path_rate)

    def _forward(self, x: Tensor, height: int, width: int) -> Tensor:
        return x + self.drop_path(self.mixer(self.norm(x), height, width))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Apply the block.

        Args:
            x: Patches and class token, `(B, height * width + 1, C)`.
            height: Rows of patches.
            width: Columns of patches.

        Returns:
            `(B, height * width + 1, C)`.
        """
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self._forward, x, height, width, use_reentrant=False)
        return self._forward(x, height, width)
