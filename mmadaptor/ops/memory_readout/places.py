# SPDX-License-Identifier: Apache-2.0
"""Places and weights from the predictions of Adaptor-T, in plain torch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def granularity_of(predicted: Tensor, granularities: Sequence[float]) -> Tensor:
    """Return the units of the offsets, `(S, 1, 1)`, in the dtype of predicted.

    They are created on the device: a copy from the host would synchronize a GPU.
    """
    return torch.stack([predicted.new_full((1, 1), r) for r in granularities])


def find_places(
    predicted: Tensor, granularities: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Compute the places of each token and their weights.

    Args:
        predicted: Offsets and logits `(B, H, W, K, 3 S P)`, as for
            :func:`mmadaptor.ops.memory_readout`.
        granularities: Unit of the offsets of each group in pixels, S numbers.

    Returns:
        Locations `(B, H, W, K, S, P, 2)` as (row, column) in pixels, and weights
        `(B, H, W, K, S, P)` that sum to 1 over P: the arguments of
        :func:`mmadaptor.ops.memory_select`.
    """
    height, width = predicted.shape[1:3]
    groups, count = len(granularities), predicted.shape[-1] // 3
    like = dict(device=predicted.device, dtype=predicted.dtype)
    grid = torch.stack(
        torch.meshgrid(
            torch.arange(height, **like), torch.arange(width, **like), indexing='ij'
        ),
        dim=-1,
    )
    grid = grid[:, :, None, None, None]  # (H, W, 1, 1, 1, 2)
    offsets, logits = predicted.split([2 * count, count], dim=-1)
    return (
        grid
        + granularity_of(predicted, granularities)
        * offsets.unflatten(-1, (groups, -1, 2)),
        logits.unflatten(-1, (groups, -1)).softmax(dim=-1),
    )
