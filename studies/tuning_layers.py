# SPDX-License-Identifier: Apache-2.0
"""Tuning methods of other papers, as layers in a frozen VMamba or Vim."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.models import Vim, VMamba
from mmadaptor.models.layers import bimamba
from mmadaptor.models.layers.class_token import insert_class_token, split_class_token
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


class OffsetScan(nn.Module):
    """The scan of a Vim, with a learned state that every token reads.

    Args:
        scan: The scan.
        channels: Channels of the scan, D.
        d_state: States per channel, N.

    Source:
        State-offset tuning, as in :class:`StateOffset`, one state for each direction.
    """

    def __init__(self, scan: nn.Module, channels: int, d_state: int) -> None:
        super().__init__()
        self.scan = scan
        self.added = nn.Parameter(torch.zeros(bimamba.DIRECTIONS, channels, d_state))

    def forward(self, C: Tensor, **arguments: Tensor) -> Tensor:
        """Scan, and add the readout of the learned state.

        Args:
            C: Output coefficients, `(B, 2, N, L)`.
            arguments: The other arguments of the scan.

        Returns:
            `(B, 2 D, L)`.
        """
        offset = torch.einsum('bknl,kdn->bkdl', C, self.added.to(C.dtype))
        return self.scan(C=C, **arguments) + offset.flatten(1, 2)


class LowRank(nn.Module):
    """A low-rank update of a linear layer.

    Args:
        inputs: Input features of the layer.
        outputs: Output features that are updated, the first of the layer.
        rank: Rank of the update.
        scale: Factor on the update.

    Source:
        LoRA (ICLR 2022); of the first outputs only: LoRAp of MambaPEFT (ICLR 2025).
        The scale is that of mmpretrain's `LoRAModel` with `alpha=16`, `rank=8`.
    """

    def __init__(
        self, inputs: int, outputs: int, rank: int, scale: float = 2.0
    ) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        self.scale = scale
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the update for the input `x` of a layer to its output `y`."""
        update = self.scale * self.up(self.down(x))
        return y + F.pad(update, (0, y.shape[-1] - update.shape[-1]))


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

    def forward(self, x: Tensor, y: Tensor, *size: int) -> Tensor:
        """Add the adapter's output for the input `x` of a layer to its output `y`."""
        return y + self.scale * self.up(F.relu(self.down(x)))


class MonaLike(nn.Module):
    """A bottleneck with depthwise convolutions of three sizes, after a layer.

    Args:
        channels: Channels of the map.
        rank: Channels of the bottleneck.

    Source:
        Mona (CVPR 2025): scaled norm, 3x3, 5x5 and 7x7 convolutions, projection, GELU.
        Unlike there it sits on the output of a layer before the residual sum, begins as
        the identity, and has no dropout.
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

    def forward(self, x: Tensor, y: Tensor, *size: int) -> Tensor:
        """Adapt the output of a layer.

        Args:
            x: Input of the layer, which is not used.
            y: Its output, a map `(B, H, W, C)`, or a sequence `(B, H W + 1, C)`, whose
                class token is convolved as a map of one pixel.
            size: H and W of a sequence.

        Returns:
            The shape of `y`.
        """
        if not size:
            return self.adapt(y)
        patches, class_token = split_class_token(y)
        patches = self.adapt(patches.unflatten(1, size)).flatten(1, 2)  # (B, H W, C)
        class_token = self.adapt(class_token.unsqueeze(1)).squeeze(1)  # (B, 1, C)
        return insert_class_token(patches, class_token)

    def adapt(self, y: Tensor) -> Tensor:
        """Adapt a map `(B, H, W, C)`."""
        z = self.down(self.norm(y) * self.normed + y * self.plain)
        maps = z.permute(0, 3, 1, 2)  # (B, R, H, W)
        maps = maps + sum(conv(maps) for conv in self.convs) / len(self.convs)
        z = maps.permute(0, 2, 3, 1)
        return y + self.up(F.gelu(z + self.mix(z)))


@MODELS.register_module()
class TunedVMamba(VMamba):
    """A frozen VMamba with small layers that train.

    Args:
        method: `'state_offset'` in each scan, `'lora'` on each projection of the scan,
            `'parallel'` beside each mixer, or `'mona'` after each mixer and each
            perceptron.
        rank: Rank of the updates, or channels of the bottleneck; not used by
            `'state_offset'`.
        trainable: What trains besides, as in :class:`~mmadaptor.models.VMamba`.
        kwargs: The other arguments of :class:`~mmadaptor.models.VMamba`.

    Raises:
        ValueError: The method is unknown.
    """

    optional_keys = (*VMamba.optional_keys, r'\.added\.')

    def __init__(
        self,
        method: str,
        rank: int = 8,
        trainable: Sequence[str] = (),
        **kwargs: object,
    ) -> None:
        super().__init__(trainable=trainable, **kwargs)
        for stage in self.stages:
            for block in stage:
                channels, mixer = block.norm1.normalized_shape[0], block.mixer
                if method == 'state_offset':
                    scanned = mixer.D.shape[1]
                    mixer.temporal = StateOffset(scanned, mixer.d_state)
                elif method == 'lora':
                    for layer in (mixer.in_proj, mixer.x_proj, mixer.out_proj):
                        add(layer, LowRank(layer.in_features, layer.out_features, rank))
                elif method == 'parallel':
                    add(mixer, ParallelAdapter(channels, rank))
                elif method == 'mona':
                    add(mixer, MonaLike(channels, rank))
                    add(block.mlp[-1], MonaLike(channels, rank))
                else:
                    raise ValueError(
                        "`method` must be 'state_offset', 'lora', 'parallel' or "
                        f"'mona', got {method!r}"
                    )


@MODELS.register_module()
class TunedVim(Vim):
    """A frozen Vim with small layers that train.

    Args:
        method: `'state_offset'` in each scan, `'lora'` on each `in_proj`, `'lora_x'` on
            its half for the scan (the other half is the gate), `'parallel'` beside each
            mixer, or `'mona'` after each mixer.
        rank: Rank of the updates, or channels of the bottleneck; not used by
            `'state_offset'`.
        kwargs: Arguments of :class:`~mmadaptor.models.Vim`.

    Raises:
        ValueError: The method is unknown.
    """

    optional_keys = (*Vim.optional_keys, r'\.added(\.|$)')

    def __init__(self, method: str, rank: int = 8, **kwargs: object) -> None:
        super().__init__(trainable=[], **kwargs)
        for block in self.layers:
            mixer, inner = block.mixer, block.mixer.D.shape[1]
            if method == 'state_offset':
                mixer.scan = OffsetScan(mixer.scan, inner, mixer.d_state)
            elif method in ('lora', 'lora_x'):
                outputs = inner if method == 'lora_x' else 2 * inner
                add(mixer.in_proj, LowRank(self.embed_dims, outputs, rank))
            elif method == 'parallel':
                add(mixer, ParallelAdapter(self.embed_dims, rank))
            elif method == 'mona':
                add(mixer, MonaLike(self.embed_dims, rank))
            else:
                raise ValueError(
                    "`method` must be 'state_offset', 'lora', 'lora_x', 'parallel' or "
                    f"'mona', got {method!r}"
                )


def add(layer: nn.Module, adapter: nn.Module) -> None:
    """Pass the output of a layer through an adapter, a new submodule `added`."""
    layer.added = adapter
    layer.register_forward_hook(
        lambda layer, inputs, output: layer.added(inputs[0], output, *inputs[1:])
    )
