# SPDX-License-Identifier: Apache-2.0
"""Reference of the gather of Adaptor-T: `grid_sample` for each place."""

import torch
import torch.nn.functional as F
from torch import Tensor


def memory_select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute the gather; see :func:`mmadaptor.ops.memory_select`.

    Args:
        states: `(B, H, W, K, D, N)`.
        locations: `(B, H, W, K, S, P, 2)`.
        weights: `(B, H, W, K, S, P)`.

    Returns:
        `(B, H, W, K, D, N)`.
    """
    batch, height, width, directions, channels, n = states.shape
    groups, places = weights.shape[4:]
    # One map for each image, direction and group: (B K S, D/S N, H, W).
    maps = states.unflatten(4, (groups, -1)).flatten(5)
    maps = maps.permute(0, 3, 4, 5, 1, 2).flatten(0, 2)
    size = locations.new_tensor([height, width])
    # grid_sample takes (x, y) in [-1, 1]; a map of one pixel has no such scale.
    grid = 2 * locations / (size - 1).clamp(min=1) - 1
    grid = torch.where(size > 1, grid, locations)
    memory = torch.zeros_like(maps)
    for p in range(places):
        at = grid[..., p, :].permute(0, 3, 4, 1, 2, 5).flatten(0, 2).flip(-1)
        weight = weights[..., p].permute(0, 3, 4, 1, 2).flatten(0, 2)
        padded = _sample(maps, at, height, width)
        memory = memory + weight[:, None] * padded
    memory = memory.unflatten(0, (batch, directions, groups))
    memory = memory.permute(0, 4, 5, 1, 2, 3)  # (B, H, W, K, S, D/S N)
    return memory.reshape(batch, height, width, directions, channels, n)


def _sample(maps: Tensor, grid: Tensor, height: int, width: int) -> Tensor:
    """Sample a map; a size of 1 is padded to 3 with zeros."""
    rows, columns = int(height == 1), int(width == 1)
    padded = F.pad(maps, (columns, columns, rows, rows))
    return F.grid_sample(padded, grid, align_corners=True)
