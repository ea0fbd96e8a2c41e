# SPDX-License-Identifier: Apache-2.0
"""Decay of the hidden states between a pixel and a token."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadaptor.models.layers import SS2D
from mmadaptor.ops.cross_selective_scan.reference import pixel_orders

from .record import Record

Pixel = tuple[int, int]
NAMES = ('rows', 'columns', 'rows reversed', 'columns reversed')


def directions(record: Record) -> list[str]:
    """Return the names of the scan directions of a block."""
    # Vim has two directions, both along rows.
    return list(NAMES if isinstance(record.mixer, SS2D) else NAMES[::2])


def decay_maps(record: Record, token: Pixel) -> Tensor:
    """Compute how much of the state of each pixel the plain scan keeps at a token.

    Args:
        record: Record of the block. The first image of its batch is used.
        token: Row and column on the map.

    Returns:
        `(K, H, W)`: for each direction the product of the decays from a pixel to the
        token, averaged over channels and states. 1 at the token, 0 at pixels that are
        scanned after it.
    """
    height, width = record.locations.shape[1:3]
    maps = torch.zeros(len(directions(record)), height, width)
    for k, (log_decay, order) in enumerate(_walks(record, height, width)):
        end = order.index(token) + 1
        total = log_decay[:end].cumsum(dim=0)  # (end, D, N)
        left = (total[-1] - total).exp().mean(dim=(1, 2))
        for pixel, value in zip(order, left.tolist(), strict=False):
            if pixel is not None:
                maps[k, pixel[0], pixel[1]] = value
    return maps


def _walks(
    record: Record, height: int, width: int
) -> list[tuple[Tensor, list[Pixel | None]]]:
    """Return log-decays `(L, D, N)` and pixels of each direction, in scan order."""
    arguments = record.arguments
    delta, bias, A = (
        arguments[name].detach().double() for name in ('delta', 'delta_bias', 'A')
    )
    if isinstance(record.mixer, SS2D):
        log_decay = F.softplus(delta[0] + bias)[..., None] * A
        return [
            (log_decay[tuple(torch.tensor(order).T)][:, k], order)
            for k, order in enumerate(pixel_orders(height, width))
        ]
    step = F.softplus(delta[0] + bias[:, None])  # (2 D, L)
    forward, backward = (step.T[..., None] * A).chunk(2, dim=1)  # (L, D, N)
    order = pixel_orders(height, width)[0]
    order.insert(len(order) // 2, None)  # the class token
    return [(forward, order), (backward, order[::-1])]
