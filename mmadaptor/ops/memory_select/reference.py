# SPDX-License-Identifier: Apache-2.0
"""Reference of the gather of Adaptor-T: bilinear weights of four pixels a place."""

import itertools

import torch
from torch import Tensor


def memory_select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute the gather; see :func:`mmadaptor.ops.memory_select`.

    It is not `grid_sample`, which has no second derivatives.

    Args:
        states: `(B, H, W, K, D, N)`.
        locations: `(B, H, W, K, S, P, 2)`.
        weights: `(B, H, W, K, S, P)`.

    Returns:
        `(B, H, W, K, D, N)`.
    """
    height, width = states.shape[1:3]
    groups = weights.shape[4]
    # One map for each image, direction and group: (B, K, S, H W, D/S N).
    maps = states.unflatten(4, (groups, -1)).permute(0, 3, 4, 1, 2, 5, 6)
    maps = maps.flatten(5).flatten(3, 4)
    locations = locations.permute(0, 3, 4, 1, 2, 5, 6)  # (B, K, S, H, W, P, 2)
    weights = weights.permute(0, 3, 4, 1, 2, 5)  # (B, K, S, H, W, P)
    first = locations.floor()
    fractions = locations - first  # NaN if not finite
    memory = 0
    for corner in itertools.product((0, 1), repeat=2):
        i, j = (first + locations.new_tensor(corner)).unbind(-1)
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        i, j = (torch.where(inside, side, 0).long() for side in (i, j))
        rows, columns = (
            f if c else 1 - f for f, c in zip(fractions.unbind(-1), corner, strict=True)
        )
        at = (i * width + j).flatten(3)[..., None]  # (B, K, S, H W P, 1)
        seen = maps.gather(3, at.expand(-1, -1, -1, -1, maps.shape[-1]))
        seen = torch.where(inside.flatten(3)[..., None], seen, 0)
        memory = memory + (weights * rows * columns).flatten(3)[..., None] * seen
    memory = memory.unflatten(3, (height, width, -1)).sum(dim=5)
    memory = memory.permute(0, 3, 4, 1, 2, 5)  # (B, H, W, K, S, D/S N)
    return memory.reshape(states.shape)
