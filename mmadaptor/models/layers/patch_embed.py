# SPDX-License-Identifier: Apache-2.0
"""The embedding of the patches of an image."""

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """A linear map of each patch, without overlap.

    Args:
        in_channels: Channels of the image.
        channels: Channels of the tokens, C.
        patch_size: Side of a patch.

    Source:
        Vision Transformer (arXiv 2010.11929).
    """

    def __init__(self, in_channels: int, channels: int, patch_size: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, channels, patch_size, patch_size)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed patches.

        Args:
            images: `(B, in_channels, H, W)`, the sides multiples of `patch_size`.

        Returns:
            `(B, M, C)`, and the rows and columns of the M patches.
        """
        x = self.projection(images)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])
