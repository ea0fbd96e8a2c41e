# SPDX-License-Identifier: Apache-2.0
"""Baselines of the fused ops, composed of simpler ops.

The 2-D scan as in other implementations: copies, the 1-D scan, and a merge.
Adaptor-T's readout as softmax (torch), gather and readout. Adaptor-S as torch's own
convolutions, in the dtype of the map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmadaptor.ops import cross_readout, memory_select, selective_scan
from mmadaptor.ops.dilated_depthwise.reference import dilated_depthwise as definition
from mmadaptor.ops.memory_readout import find_places


def _scan_order(maps: Tensor) -> Tensor:
    """Reorder `(B, H, W, 4, F)` to `(B, L, 4, F)`, each direction in scan order."""
    rows, columns, rows_back, columns_back = maps.unbind(3)
    return torch.stack(
        [
            rows.flatten(1, 2),
            columns.transpose(1, 2).flatten(1, 2),
            rows_back.flatten(1, 2).flip(1),
            columns_back.transpose(1, 2).flatten(1, 2).flip(1),
        ],
        dim=2,
    )


def _image_order(sequences: Tensor, height: int, width: int) -> Tensor:
    """Reorder `(B, L, 4, F)`, each direction in scan order, to `(B, H, W, 4, F)`."""
    rows, columns, rows_back, columns_back = sequences.unbind(2)
    by_row, by_column = (height, width), (width, height)
    return torch.stack(
        [
            rows.unflatten(1, by_row),
            columns.unflatten(1, by_column).transpose(1, 2),
            rows_back.flip(1).unflatten(1, by_row),
            columns_back.flip(1).unflatten(1, by_column).transpose(1, 2),
        ],
        dim=3,
    )


def cross_selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
) -> Tensor:
    """Compute :func:`mmadaptor.ops.cross_selective_scan` with softplus.

    Args:
        x: `(B, H, W, D)`.
        delta: `(B, H, W, 4, D)`.
        A: `(4, D, N)`.
        B: `(B, H, W, 4, N)`.
        C: `(B, H, W, 4, N)`.
        D: `(4, D)`.
        delta_bias: `(4, D)`.

    Returns:
        `(B, H, W, D)`.
    """
    height, width = x.shape[1:3]
    copies = x.unsqueeze(3).expand(-1, -1, -1, 4, -1)
    y = selective_scan(
        _scan_order(copies).flatten(2).transpose(1, 2),  # (B, 4 D, L)
        _scan_order(delta).flatten(2).transpose(1, 2),
        A.flatten(0, 1),
        _scan_order(B).permute(0, 2, 3, 1),  # (B, 4, N, L)
        _scan_order(C).permute(0, 2, 3, 1),
        D.flatten(),
        delta_bias=delta_bias.flatten(),
        delta_softplus=True,
    )
    y = y.transpose(1, 2).unflatten(2, (4, -1))  # (B, L, 4, D)
    return _image_order(y, height, width).sum(dim=3)


def memory_readout(
    values: Tensor,
    predicted: Tensor,
    granularities: Sequence[float],
    coefficients: Tensor,
) -> Tensor:
    """Compute :func:`mmadaptor.ops.memory_readout`.

    Args:
        values: `(B, H, W, K, D)`.
        predicted: `(B, H, W, K, 3 S P)`.
        granularities: S numbers, one per group of channels.
        coefficients: `(B, H, W, K)`.

    Returns:
        `(B, H, W, D)`.
    """
    memory = memory_select(values.unsqueeze(-1), *find_places(predicted, granularities))
    return cross_readout(memory, coefficients.unsqueeze(-1))


def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """Compute :func:`mmadaptor.ops.dilated_depthwise`.

    Args:
        y: `(B, H, W, D)`.
        kernels: `(R, D, 3, 3)`.
        dilations: R numbers.

    Returns:
        `(B, H, W, D)`.
    """
    return definition(y, kernels.to(y.dtype), dilations)
