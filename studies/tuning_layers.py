# SPDX-License-Identifier: Apache-2.0
"""Tuning methods of other papers, as layers in a frozen VMamba."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.models import VMamba
from mmadaptor.models.layers.scan_init import DIRECTIONS
from mmadaptor.registry import MODELS


class StateOffset(nn.Module):
    """Adds a learned state, the same for all tokens, to the readout of a scan.

    It takes the place of Adaptor-T, and is called like it.

    Args:
        channels: Channels of the scan, D.
        d_state: States per channel, N.

    Source:
        State-offset tuning (ACL 2025): `y_t = y_t + C_t h'`.
    """

    def __init__(self, channels: int, d_state: int) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.zeros(DIRECTIONS, channels, d_state))

    def forward(self, states: Tensor, C: Tensor) -> Tensor:
        """Return what is added to the output of the scan.

        Args:
            states: All states, which are not used.
            C: Output coefficients, `(B, H, W, 4, N)`.

        Returns:
            `(B, H, W, D)`.
        """
        return torch.einsum('bhwkn,kdn->bhwd', C, self.state.to(C.dtype))


class ParallelAdapter(nn.Module):
    """A bottleneck beside a layer, whose output it adds to.

    Args:
        channels: Channels of input and output.
        rank: Channels of the bottleneck.
        scale: Factor on the output.

    Source:
        MambaPEFT (ICLR 2025), ParallelAdapter, with its scale of 0.1.
    """

    def __init__(self, channels: int, rank: int, scale: float = 0.1) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, rank), nn.Linear(rank, channels)
        self.scale = scale
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the adapter's output for the input `x` of a layer to its output `y`."""
        return y + self.scale * self.up(F.relu(self.down(x)))


class MonaLike(nn.Module):
    """A bottleneck with depthwise convolutions of three sizes, after a layer.

    Args:
        channels: Channels of the map.
        rank: Channels of the bottleneck.

    Source:
        Mona (CVPR 2025): scaled norm, 3x3, 5x5 and 7x7 convolutions, projection, GELU.
        Unlike there it sits on the output of a layer before the residual sum, and
        begins as the identity.
    """

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.normed = nn.Parameter(torch.full((channels,), 1e-6))
        self.plain = nn.Parameter(torch.ones(channels))
        self.down, self.up = nn.Linear(channels, rank), nn.Linear(rank, channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(rank, rank, size, padding=size // 2, groups=rank)
            for size in (3, 5, 7)
        )
        self.mix = nn.Linear(rank, rank)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Adapt the output `y`, `(B, H, W, C)`, of a layer; its input is not used."""
        z = self.down(self.norm(y) * self.normed + y * self.plain)
        maps = z.permute(0, 3, 1, 2)  # (B, R, H, W)
        maps = maps + sum(conv(maps) for conv in self.convs) / len(self.convs)
        z = maps.permute(0, 2, 3, 1)
        return y + self.up(F.gelu(z + self.mix(z)))


@MODELS.register_module()
class TunedVMamba(VMamba):
    """A frozen VMamba with small layers that train.

    Args:
        method: `'state_offset'` in each scan, `'parallel'` beside each mixer, or
            `'mona'` after each mixer and each perceptron.
        rank: Channels of the bottleneck; not used by `'state_offset'`.
        kwargs: Arguments of :class:`~mmadaptor.models.VMamba`.

    Raises:
        ValueError: The method is unknown.
    """

    optional_keys = (*VMamba.optional_keys, r'\.added\.')

    def __init__(self, method: str, rank: int = 8, **kwargs: object) -> None:
        super().__init__(trainable=[], **kwargs)
        for stage in self.stages:
            for block in stage:
                channels = block.norm1.normalized_shape[0]
                if method == 'state_offset':
                    scanned = block.mixer.D.shape[1]
                    block.mixer.temporal = StateOffset(scanned, block.mixer.d_state)
                elif method == 'parallel':
                    add(block.mixer, ParallelAdapter(channels, rank))
                elif method == 'mona':
                    add(block.mixer, MonaLike(channels, rank))
                    add(block.mlp[-1], MonaLike(channels, rank))
                else:
                    raise ValueError(
                        "`method` must be 'state_offset', 'parallel' or 'mona', "
                        f'got {method!r}'
                    )


def add(layer: nn.Module, adapter: nn.Module) -> None:
    """Pass the output of a layer through an adapter, a new submodule `added`."""
    layer.added = adapter
    layer.register_forward_hook(
        lambda layer, inputs, output: layer.added(inputs[0], output)
    )
