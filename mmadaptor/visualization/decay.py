# SPDX-License-Identifier: Apache-2.0
"""Decay of the hidden states between a pixel and a token."""

import torch
from torch import Tensor

from mmadaptor.models.layers import SS2D
from mmadaptor.models.record import Record, log_decays
from mmadaptor.ops.cross_selective_scan.reference import pixel_orders


def decay_maps(record: Record, token: tuple[int, int]) -> Tensor:
    """Compute how much of the state of each pixel the plain scan keeps at a token.

    Args:
        record: Record of the block. The first image of its batch is used.
        token: Row and column on the map.

    Returns:
        `(K, H, W)`: for each direction the product of the decays from a pixel to the
        token, averaged over channels and states. 1 at the token, 0 at pixels that are
        scanned after it.
    """
    decays = log_decays(record, torch.double)[0]  # (H, W, K, D, N)
    height, width = decays.shape[:2]
    orders = pixel_orders(height, width)
    if not isinstance(record.mixer, SS2D):
        orders = orders[::2]
    maps = torch.zeros(len(orders), height, width)
    for k, order in enumerate(orders):
        pixels = torch.tensor(order[: order.index(token) + 1]).unbind(1)
        total = decays[pixels][:, k].cumsum(dim=0)  # (pixels, D, N)
        maps[k][pixels] = (total[-1] - total).exp().mean(dim=(1, 2)).float()
    return maps
