"""Adaptor-T's definition: the gather and the readout that it stands for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmadaptor.ops.memory_select import reference


def memory_readout(values: Tensor, predicted: Tensor,
                   granularities: Sequence[float],
                   coefficients: Tensor) -> Tensor:
    """The readout; see :func:`mmadaptor.ops.memory_readout`.

    Args:
        values: `(B, H, W, K, D)`.
        predicted: `(B, H, W, K, 3 S P)`.
        granularities: S numbers.
        coefficients: `(B, H, W, K)`.

    Returns:
        `(B, H, W, D)`.
    """
    height, width = values.shape[1:3]
    groups = len(granularities)
    offsets, logits = predicted.split(
        [predicted.shape[-1] // 3 * 2, predicted.shape[-1] // 3], dim=-1)
    grid = torch.stack(torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing='ij'), dim=-1)
    granularity = predicted.new_tensor(granularities)[:, None, None]
    locations = grid.to(predicted)[:, :, None, None, None] + (
        granularity * offsets.unflatten(-1, (groups, -1, 2)))
    weights = logits.unflatten(-1, (groups, -1)).softmax(dim=-1)
    memory = reference.memory_select(
        values.unsqueeze(-1), locations, weights).squeeze(-1)
    return (coefficients.unsqueeze(-1) * memory).sum(dim=3)
