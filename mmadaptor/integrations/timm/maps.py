# SPDX-License-Identifier: Apache-2.0
"""VMamba and MambaAdaptor with the methods of timm's models."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mmadaptor.models.backbones.base import AdaptableBackbone

from .base import LAST, TimmModel, check_format


class _ChannelsFirst(nn.Module):
    """Takes the place of an output norm that was pruned."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a map `(B, H, W, C)` as `(B, C, H, W)`."""
        return x.permute(0, 3, 1, 2).contiguous()


class MapModel(TimmModel):
    """A VMamba or MambaAdaptor with the methods of timm's models.

    Args:
        kind: As in :class:`TimmModel`.
        arch: As in :class:`TimmModel`.
        normed: Stages with an output norm. Default: the last one.
        kwargs: As in :class:`TimmModel`.
    """

    def __init__(
        self,
        kind: type[AdaptableBackbone],
        arch: str,
        normed: Sequence[int] = (-1,),
        **kwargs: Any,
    ) -> None:
        super().__init__(kind, arch, out_indices=normed, **kwargs)
        dims = [self.backbone.embed_dims * 2**i for i in range(len(self._stages))]
        self.feature_info = [
            dict(num_chs=dim, reduction=4 * 2**i, module=f'backbone.stages.{i}')
            for i, dim in enumerate(dims)
        ]

    @property
    def _stages(self) -> nn.ModuleList:
        return self.backbone.stages

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        """Return patterns of the names of parameters, by depth.

        Args:
            coarse: Whether a stage is one group. Default: each block is.
        """
        blocks = [
            (r'^backbone\.downsample_layers\.(\d+)', None if coarse else (0,)),
            (r'^backbone\.stages\.(\d+)' + ('' if coarse else r'\.(\d+)'), None),
            (r'^backbone\.norm', LAST),
        ]
        return dict(stem=r'^backbone\.downsample_layers\.0', blocks=blocks)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last map.

        Args:
            x: Images `(B, in_chans, H, W)`.

        Returns:
            `(B, C, H / 32, W / 32)`, the sides rounded up.
        """
        return self.backbone(x)[-1]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the maps of stages.

        Args:
            x: Images `(B, in_chans, H, W)`.
            indices: Stages; an integer n for the last n. Default: all.
            norm: Whether to apply the output norms of the stages that have one.
            stop_early: Whether to leave out stages that `indices` does not need.
            output_fmt: `'NCHW'` or `'NHWC'`.
            intermediates_only: Whether to return the maps of `indices` alone.

        Returns:
            The last map, normalized, and the maps in the order of `indices`.

        Raises:
            ValueError: `output_fmt` is unknown.
        """
        check_format(output_fmt, ('NCHW', 'NHWC'))
        wanted, last = feature_take_indices(len(self._stages), indices)
        last = last if stop_early else len(self._stages) - 1
        maps, plain = self.backbone.stage_maps(x, {*wanted, last}), _ChannelsFirst()
        normed = {i: getattr(self.backbone, f'norm{i}', plain) for i in maps}
        # (B, C, H_i, W_i)
        found = [(normed[i] if norm else plain)(maps[i]) for i in wanted]
        if output_fmt == 'NHWC':
            found = [y.permute(0, 2, 3, 1) for y in found]
        return found if intermediates_only else (normed[last](maps[last]), found)

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove the stages after those of `indices`.

        Args:
            indices: As in `forward_intermediates`.
            prune_norm: Whether to remove output norms too.
            prune_head: Whether to remove the classifier even if its stage stays.

        Returns:
            The stages of `indices`.
        """
        backbone = self.backbone
        wanted, last = feature_take_indices(len(self._stages), indices)
        if last < len(self._stages) - 1:
            prune_head = True
        backbone.stages = backbone.stages[: last + 1]
        backbone.downsample_layers = backbone.downsample_layers[: last + 1]
        for i in backbone.out_indices:
            if prune_norm or i not in wanted:
                delattr(backbone, f'norm{i}')
        if not hasattr(backbone, f'norm{last}'):
            backbone.add_module(f'norm{last}', _ChannelsFirst())
        kept = [i for i in range(last + 1) if hasattr(backbone, f'norm{i}')]
        info = [self.feature_info[i] for i in kept]
        backbone.frozen_stages = min(backbone.frozen_stages, last + 1)
        backbone.out_indices = tuple(kept)
        backbone.out_channels = tuple(level['num_chs'] for level in info)
        backbone.strides = tuple(level['reduction'] for level in info)
        self.num_features = backbone.out_channels[-1]
        self.head.in_features = self.num_features
        if prune_head:
            self.reset_classifier(0, '')
        return wanted
