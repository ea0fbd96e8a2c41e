# SPDX-License-Identifier: Apache-2.0
"""Vim: equal blocks that scan a sequence of patches forth and back."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmadaptor.registry import BACKBONES

from ..layers import VimBlock
from ..layers.class_token import insert_class_token, split_class_token
from ..layers.vim_block import EPSILON
from .adaptor_config import adaptors_of_blocks
from .base import AdaptableBackbone, checked_indices

ARCH_KEYS = {'embed_dims', 'depth'}
OUT_TYPES = ('cls_token', 'featmap')


@BACKBONES.register_module()
class Vim(AdaptableBackbone):
    """The Vim backbone, with the class token in the middle of the sequence.

    Adaptors see the map of patches; the class token, which has no place on it,
    gains the mean of what the patches gain.

    Args:
        arch: `'tiny'`, `'small'`, or a dict of `embed_dims` and `depth`.
        img_size: Of the images that the position embedding is for, a side or
            `(height, width)`. Other images, of any size, resize it.
        patch_size: Side of a patch.
        in_channels: Channels of the image.
        out_type: `'cls_token'`: vectors; `'featmap'`: maps of the patches.
        out_indices: The blocks whose output is returned; negative ones count
            from the end, and one may stand several times, for a pyramid made
            of one map. The final norm is applied after the last block alone;
            blocks after the last of them are not run, and frozen.
        frozen_stages: -1: none; 0: the embeddings; n: them and n blocks.
        drop_path_rate: Of the last block; it grows from 0 block by block.
        with_cp: Whether to recompute blocks in the backward pass, which saves
            memory.
        adaptors: As :class:`~mmadaptor.models.VMamba` takes it; `blocks` is
            one list of block indices in a list, for there is one stage.
        trainable: As :class:`~mmadaptor.models.VMamba` takes it.
        init_cfg: mmengine's initialisation config. `Pretrained` is strict:
            its file holds every parameter and nothing else, or loading fails;
            but it may lack adaptors.

    Raises:
        ValueError: For an unknown `arch`, `out_type`, block or adaptor key.

    Source:
        Vision Mamba (arXiv 2401.09417), with the class token in the middle.
    """

    arch_settings: Mapping[str, dict] = {
        'tiny': dict(embed_dims=192, depth=24),
        'small': dict(embed_dims=384, depth=24),
    }
    undecayed = ('cls_token', 'pos_embed')
    optional_keys = (r'^layers\..*\.(temporal|spatial)\.',)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_type: str = 'cls_token',
        out_indices: Sequence[int] = (-1,),
        frozen_stages: int = -1,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        adaptors: dict | None = None,
        trainable: Sequence[str] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(drop_path_rate, trainable, init_cfg)
        arch = self._settings(arch, ARCH_KEYS)
        self.out_type, self.frozen_stages = out_type, frozen_stages
        dims, depth = arch['embed_dims'], arch['depth']
        if out_type not in OUT_TYPES:
            raise ValueError(
                f'`out_type` must be one of {list(OUT_TYPES)}, got {out_type!r}'
            )
        self.out_indices = [
            i % depth for i in checked_indices(out_indices, range(-depth, depth))
        ]
        self._check_frozen_stages(depth)
        if min(*to_2tuple(img_size), patch_size) < 1:
            raise ValueError(
                '`img_size` and `patch_size` must be 1 or more, '
                f'got {img_size} and {patch_size}'
            )
        # Images that the patches do not divide are padded below and right.
        self.patch_embed = PatchEmbed(
            in_channels,
            dims,
            kernel_size=patch_size,
            stride=patch_size,
            input_size=to_2tuple(img_size),
        )
        self.grid = self.patch_embed.init_out_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, dims))
        self.pos_embed = nn.Parameter(
            torch.empty(1, self.grid[0] * self.grid[1] + 1, dims)
        )
        for embedding in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(embedding, std=0.02)
        (carried,) = adaptors_of_blocks(adaptors, [depth])
        last = max(depth - 1, 1)
        self.layers = ModuleList(
            VimBlock(dims, drop_path_rate * i / last, with_cp, mixer)
            for i, mixer in enumerate(carried)
        )
        self.norm = nn.RMSNorm(dims, eps=EPSILON)
        self.apply_tuning(adaptors)

    def _freeze_stages(self) -> None:
        # A distributed job would wait for the gradients of what no output
        # needs. Adaptors may be shared with what one does.
        last = max(self.out_indices) + 1
        needed = set(self.layers[:last].parameters())
        unneeded = self.layers[last:]
        for parameter in (
            *unneeded.parameters(),
            *(self.norm.parameters() if unneeded else ()),
        ):
            if parameter not in needed:
                parameter.requires_grad_(False)
        if self.frozen_stages < 0:
            return
        self.cls_token.requires_grad_(False)
        self.pos_embed.requires_grad_(False)
        active = set(self.layers[self.frozen_stages : last].parameters())
        for module in (self.patch_embed, *self.layers[: self.frozen_stages]):
            module.eval()
            for parameter in module.parameters():
                if parameter not in active:
                    parameter.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter, for layer-wise learning rates.

        Args:
            param_name: The name of the parameter.
            prefix: The prefix of the backbone's names.

        Returns:
            The depth, 0 for the embeddings and 1 for the first block, and the
            number of depths.
        """
        name, depths = param_name.removeprefix(prefix), len(self.layers) + 2
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, depths
        first = name.startswith(('patch_embed.', 'cls_token', 'pos_embed'))
        return 0 if first else depths - 1, depths

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches and class token, with their positions.

        Args:
            images: `(B, in_channels, H, W)`.

        Returns:
            The sequence, `(B, M + 1, C)`, and the rows and columns of the M
            patches.
        """
        patches, size = self.patch_embed(images)  # (B, M, C)
        x = insert_class_token(patches, self.cls_token.expand(len(patches), -1, -1))
        return x + resize_positions(self.pos_embed, self.grid, size), size

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of the blocks asked for.

        Args:
            images: `(B, in_channels, H, W)`, of any size.

        Returns:
            For each of `out_indices` `(B, C)`, or a contiguous map, `(B, C,
            H_i, W_i)`, whose sides are those of the image over `patch_size`,
            rounded up.
        """
        x, size = self.embed(images)
        outputs = {}
        for i, layer in enumerate(self.layers):
            if i > max(self.out_indices):
                break
            x = layer(x, *size)
            if i in self.out_indices:
                last = i == len(self.layers) - 1
                outputs[i] = self._output(self.norm(x) if last else x, size)
        return tuple(outputs[i] for i in self.out_indices)

    def _output(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        patches, class_token = split_class_token(x)
        if self.out_type == 'cls_token':
            return class_token.squeeze(1)
        return patches.transpose(1, 2).unflatten(2, size).contiguous()


def resize_positions(
    positions: Tensor, grid: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Fit a position embedding with a class token in its middle to a map.

    Args:
        positions: `(1, M + 1, C)`.
        grid: Rows and columns of the M patches that it is for.
        size: Rows and columns of patches that it is to fit.

    Returns:
        `(1, size[0] * size[1] + 1, C)`, the same where the sizes are.
    """
    if tuple(grid) == tuple(size):
        return positions
    patches, class_token = split_class_token(positions)
    patches = patches.transpose(1, 2).unflatten(2, grid)  # (1, C, *grid)
    patches = F.interpolate(patches, size, mode='bicubic').flatten(2)
    return insert_class_token(patches.transpose(1, 2), class_token)
