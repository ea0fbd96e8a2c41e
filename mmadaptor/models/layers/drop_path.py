# SPDX-License-Identifier: Apache-2.0
"""Drop path, also called stochastic depth."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drops a residual branch for some samples of a batch while training.

    Args:
        drop_prob: Probability of dropping a sample, less than 1. The others are divided
            by the probability of keeping them.

    Source:
        Deep Networks with Stochastic Depth (arXiv 1603.09382).
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop some samples of a batch `(B, ...)`."""
        if self.drop_prob == 0 or not self.training:
            return x
        shape = (x.shape[0], *[1] * (x.dim() - 1))
        # Not in the dtype of x: numbers of bfloat16 are multiples of 1/256.
        kept = torch.rand(shape, device=x.device) >= self.drop_prob
        return x.div(1 - self.drop_prob) * kept

    def extra_repr(self) -> str:
        """Return the probability."""
        return f'drop_prob={self.drop_prob}'
