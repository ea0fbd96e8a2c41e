# SPDX-License-Identifier: Apache-2.0
"""How much of each state is left where a token is scanned."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadaptor.models.layers import SS2D
from mmadaptor.ops.cross_selective_scan.reference import pixel_orders

from .record import Record

Pixel = tuple[int, int]
NAMES = ('rows', 'columns', 'rows reversed', 'columns reversed')


def directions(record: Record) -> list[str]:
    """What the directions of a block's scan are called.

    Args:
        record: The block's.

    Returns:
        A name for each.
    """
    # Vim has two, both along rows.
    return list(NAMES if isinstance(record.mixer, SS2D) else NAMES[::2])


def decay_maps(record: Record, token: Pixel) -> Tensor:
    """What the plain scan has left of each pixel's state at a token.

    Args:
        record: The block's, of a batch whose first image is taken.
        token: Row and column on the map.

    Returns:
        `(K, H, W)`: for each direction the product of the decays from a pixel
        to the token, averaged over channels and states; 1 at the token, 0 at
        pixels that are scanned after it.
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
    """Each direction's log-decays, `(L, D, N)`, and its pixels, as scanned."""
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
    forth, back = (step.T[..., None] * A).chunk(2, dim=1)  # (L, D, N)
    order = pixel_orders(height, width)[0]
    order.insert(len(order) // 2, None)  # the class token
    return [(forth, order), (back, order[::-1])]
