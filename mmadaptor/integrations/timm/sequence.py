# SPDX-License-Identifier: Apache-2.0
"""Vim with the methods of timm's vision transformers."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import global_pool_nlc
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.models.backbones.vim import map_of
from mmadaptor.models.layers.class_token import split_class_token

from .base import LAST, TimmModel, check_format

TOKEN_POOLS = ('token', 'avg', 'max', 'avgmax', '')


class TokenHead(nn.Module):
    """Pool a sequence, then dropout and a linear layer.

    Args:
        in_features: Channels of the tokens, C.
        num_classes: Number of classes. 0: the pooled features are returned.
        pool_type: One of `TOKEN_POOLS`. `''`: no pooling.
        drop_rate: Dropout before the linear layer.

    Raises:
        ValueError: `pool_type` is unknown.
    """

    def __init__(
        self, in_features: int, num_classes: int, pool_type: str, drop_rate: float
    ) -> None:
        super().__init__()
        self.num_features = in_features
        self.drop = nn.Dropout(drop_rate)
        self.reset(num_classes, pool_type)

    def reset(
        self, num_classes: int, pool_type: str | None = None, **factory: Any
    ) -> None:
        """Replace the linear layer.

        Args:
            num_classes: Number of classes; 0 removes the layer.
            pool_type: Default: unchanged.
            factory: `device` and `dtype` of the layer.
        """
        if pool_type is not None:
            if pool_type not in TOKEN_POOLS:
                raise ValueError(
                    f'`global_pool` must be one of {list(TOKEN_POOLS)}, got '
                    f'{pool_type!r}'
                )
            self.global_pool = pool_type
        self.fc = nn.Identity()
        if num_classes:
            self.fc = nn.Linear(self.num_features, num_classes, **factory)
        self.fc.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify.

        Args:
            x: `(B, M + 1, C)`, the class token first.
            pre_logits: Whether to leave out the linear layer.

        Returns:
            `(B, num_classes)`, or the pooled `(B, C)`.
        """
        x = self.drop(global_pool_nlc(x, self.global_pool, num_prefix_tokens=1))
        return x if pre_logits else self.fc(x)


class SequenceModel(TimmModel):
    """Vim with the methods of timm's vision transformers.

    Outputs have the class token first, as in timm's; inside it is in the middle.
    """

    default_pool = 'token'
    head_type = TokenHead
    num_prefix_tokens = 1
    has_class_token = True

    def __init__(self, kind: type[AdaptableBackbone], arch: str, **kwargs: Any) -> None:
        super().__init__(kind, arch, out_indices=(-1,), out_type='cls_token', **kwargs)
        self.embed_dim = self.num_features
        info = dict(num_chs=self.embed_dim, reduction=self.backbone.patch_size)
        self.feature_info = [
            dict(info, module=f'backbone.layers.{i}')
            for i in range(len(self.backbone.layers))
        ]

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        """Return patterns of the names of parameters, by depth.

        Args:
            coarse: Unused: a block is a group in any case.
        """
        return dict(
            stem=r'^backbone\.(?:cls_token|pos_embed|patch_embed)',
            blocks=[(r'^backbone\.layers\.(\d+)', None), (r'^backbone\.norm', LAST)],
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last sequence.

        Args:
            x: Images `(B, in_chans, H, W)`.

        Returns:
            `(B, M + 1, C)`, the class token first.
        """
        last = len(self.backbone.layers) - 1
        found, _ = self.backbone.sequences(x, (last,))
        return _token_first(self.backbone.norm(found[last]))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list | tuple[Tensor, list]:
        """Compute the patches of blocks.

        Args:
            x: Images `(B, in_chans, H, W)`.
            indices: Blocks; an integer n for the last n. Default: all.
            return_prefix_tokens: Whether to return pairs of the patches and the class
                token `(B, 1, C)`.
            norm: Whether to apply the final norm to the last block's. The others have
                none, as in the backbone.
            stop_early: Whether to leave out blocks that `indices` does not need.
            output_fmt: `'NCHW'` or `'NLC'`.
            intermediates_only: Whether to return the patches of `indices` alone.

        Returns:
            The last sequence, normalized, with the class token first, and the patches
            `(B, C, H_i, W_i)` or `(B, M, C)` in the order of `indices`.

        Raises:
            ValueError: `output_fmt` is unknown.
        """
        check_format(output_fmt, ('NCHW', 'NLC'))
        final, end = self.backbone.norm, len(self.backbone.layers) - 1
        wanted, last = feature_take_indices(end + 1, indices)
        last = last if stop_early else end
        found, size = self.backbone.sequences(x, {*wanted, last})
        outputs = []
        for i in wanted:
            y = final(found[i]) if norm and i == end else found[i]
            patches, token = split_class_token(y)
            patches = map_of(patches, size) if output_fmt == 'NCHW' else patches
            outputs.append((patches, token) if return_prefix_tokens else patches)
        if intermediates_only:
            return outputs
        return _token_first(final(found[last])), outputs

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove the blocks after those of `indices`.

        Args:
            indices: As in `forward_intermediates`.
            prune_norm: Whether to remove the final norm even if its block stays.
            prune_head: Whether to remove the classifier too.

        Returns:
            The blocks of `indices`.
        """
        backbone = self.backbone
        wanted, last = feature_take_indices(len(backbone.layers), indices)
        if prune_norm or last < len(backbone.layers) - 1:
            backbone.norm = nn.Identity()
        backbone.layers = backbone.layers[: last + 1]
        backbone.out_indices = (last,)
        if prune_head:
            self.reset_classifier(0, '')
        return wanted


def _token_first(sequence: Tensor) -> Tensor:
    """Move the class token of `(B, M + 1, C)` from the middle to the start."""
    patches, token = split_class_token(sequence)
    return torch.cat([token, patches], dim=1)
