# SPDX-License-Identifier: Apache-2.0
"""Layers of other papers between the states of a scan and its output.

Each takes the place of Adaptor-T, is called like it, and starts at zero like it. Per
token and channel Adaptor-T has 164 multiply-adds (96 of predictors, 68 of gather and
readout), and these have about as many.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.models import VMamba
from mmadaptor.models.layers.scan_init import DIRECTIONS
from mmadaptor.ops import cross_readout, dilated_depthwise
from mmadaptor.registry import MODELS

DILATIONS = (1, 3, 5, 7)


class StateFusion(nn.Module):
    """Fuses the states of fixed neighbors with learned weights.

    .. code-block:: text

        y_i = y_i + gamma sum_k C_{k,i} . (h_{k,i} + sum_r DWConv3x3_r(h_k)_i)

    148 multiply-adds per token and channel, for one state per channel.

    Args:
        channels: Channels of the scan, D.
        d_state: States per channel, N.

    Source:
        Spatial-Mamba (ICLR 2025), structure-aware state fusion, with dilations 1, 3
        and 5 of one scan. Our choice: the dilation 7, four scans that share the
        kernels, zeros outside the map, and the residual sum with gamma.
    """

    undecayed = ('gamma',)

    def __init__(self, channels: int, d_state: int) -> None:
        super().__init__()
        shape = len(DILATIONS), channels * d_state, 3, 3
        self.kernels = nn.Parameter(torch.empty(shape).uniform_(-1 / 3, 1 / 3))
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, states: Tensor, C: Tensor) -> Tensor:
        """Return what is added to the output of the scan.

        Args:
            states: All states, `(B, H, W, 4, D, N)`.
            C: Output coefficients, `(B, H, W, 4, N)`.

        Returns:
            `(B, H, W, D)`.
        """
        maps = states.flatten(3)  # (B, H, W, 4 D N)
        kernels = self.kernels.repeat(1, DIRECTIONS, 1, 1)
        fused = dilated_depthwise(maps, kernels, DILATIONS)
        return self.gamma * cross_readout(fused.view(states.shape), C)


class NeighborAttention(nn.Module):
    """Mixes the states of a neighborhood with weights of queries and keys.

    .. code-block:: text

        a_ij = softmax_j(q_i . k_j / sqrt(d) + b_{j-i})
        y_i  = y_i + gamma sum_k C_{k,i} . sum_j a_ij h_{k,j}

    j runs over 3 x 3 places, with another dilation in each head. A head has a group of
    the channels. 172 to 158 multiply-adds per token and channel, for 32 to 256 channels
    with one state each.

    Args:
        channels: Channels of the scan, D.
        d_state: States per channel, N. Any number; it is not used.
        head_channels: Channels d of queries and keys of each head.

    Source:
        A2Mamba (arXiv 2507.16624), attention-augmented SSM, in which windows of
        several scales mix the states before the readout. Our choice: four scans with
        one attention, queries and keys of their output, the dilations, the bias b of
        relative positions, zeros outside the map, and the residual sum with gamma.
    """

    undecayed = ('gamma', 'bias')

    def __init__(self, channels: int, d_state: int, head_channels: int = 14) -> None:
        super().__init__()
        heads = len(DILATIONS)
        self.scale = head_channels**-0.5
        self.query = nn.Linear(channels, heads * head_channels, bias=False)
        self.key = nn.Linear(channels, heads * head_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(heads, 9))
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, states: Tensor, C: Tensor) -> Tensor:
        """Return what is added to the output of the scan.

        Args:
            states: All states, `(B, H, W, 4, D, N)`.
            C: Output coefficients, `(B, H, W, 4, N)`.

        Returns:
            `(B, H, W, D)`.
        """
        heads = len(DILATIONS), -1
        tokens = cross_readout(states, C)  # (B, H, W, D)
        query = self.query(tokens).unflatten(3, heads)  # (B, H, W, S, d)
        keys = windows(self.key(tokens).unflatten(3, heads))  # (B, H, W, S, 9, d)
        logits = (keys @ query.unsqueeze(-1)).squeeze(-1)  # (B, H, W, S, 9)
        weights = (self.scale * logits + self.bias).softmax(dim=-1)
        of_heads = states.unflatten(4, heads).movedim(4, 3)  # (B, H, W, S, 4, D/S, N)
        values = windows(of_heads.flatten(4))  # (B, H, W, S, 9, 4 D/S N)
        memory = (weights.unsqueeze(-2) @ values).view(of_heads.shape)
        memory = memory.movedim(3, 4).flatten(4, 5)  # (B, H, W, 4, D, N)
        return self.gamma * cross_readout(memory, C)


def windows(maps: Tensor) -> Tensor:
    """Return the 3 x 3 places around each pixel, with a dilation for each head.

    Args:
        maps: `(B, H, W, S, C)`, S the number of `DILATIONS`.

    Returns:
        `(B, H, W, S, 9, C)`, zeros outside the map.
    """
    height, width = maps.shape[1:3]
    heads = []
    for map_, r in zip(maps.unbind(3), DILATIONS, strict=True):
        padded = F.pad(map_, (0, 0, r, r, r, r))
        places = [
            padded[:, i : i + height, j : j + width]
            for i, j in itertools.product((0, r, 2 * r), repeat=2)
        ]
        heads.append(torch.stack(places, dim=3))
    return torch.stack(heads, dim=3)


LAYERS = dict(fusion=StateFusion, attention=NeighborAttention)


@MODELS.register_module()
class RelatedVMamba(VMamba):
    """VMamba with a layer of another paper in the place of Adaptor-T.

    Args:
        layer: `'fusion'` (:class:`StateFusion`) or `'attention'`
            (:class:`NeighborAttention`).
        kwargs: Arguments of :class:`~mmadaptor.models.VMamba`.

    Raises:
        ValueError: The layer is unknown.
    """

    def __init__(self, layer: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if layer not in LAYERS:
            raise ValueError(f'`layer` must be one of {list(LAYERS)}, got {layer!r}')
        for stage in self.stages:
            for block in stage:
                mixer = block.mixer
                mixer.temporal = LAYERS[layer](mixer.D.shape[1], mixer.d_state)
