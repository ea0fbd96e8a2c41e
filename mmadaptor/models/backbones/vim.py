# SPDX-License-Identifier: Apache-2.0
"""Vim: equal blocks that scan a sequence of patches in both directions."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import check_integer, integers_of, is_integer
from ..layers import VimBlock
from ..layers.class_token import insert_class_token, split_class_token
from ..layers.patch_embed import PatchEmbed
from ..layers.vim_block import EPSILON
from .adaptor_config import adaptors_of_blocks
from .base import AdaptableBackbone, checked_indices

ARCH_KEYS = {'embed_dims', 'depth'}
OUT_TYPES = ('cls_token', 'featmap')


class Vim(AdaptableBackbone):
    """The Vim backbone, with the class token in the middle of the sequence.

    The adaptors work on the map of patches, which does not include the class token. The
    class token gets the mean of the terms that they add to the patches.

    `patch_map` is a layer that leaves the map of patches `(B, C, H, W)` as it is, for
    Grad-CAM and other tools that read a layer. With `out_type='featmap'` it is the last
    output, else the input of the last block: no later layer reads patches.

    Args:
        arch: `'tiny'`, `'small'`, or a dict of `embed_dims` and `depth`.
        img_size: Image size of the position embedding, a side or `(height, width)`.
            For images of another size it is resized.
        patch_size: Side of a patch.
        in_channels: Channels of the image.
        out_type: `'cls_token'` to return the class token of each output block, or
            `'featmap'` to return the map of its patches.
        out_indices: Indices of the blocks whose outputs are returned, or a single
            one. Negative indices count from the end. An index may occur several
            times, for a pyramid of one map. The final norm is applied after the last
            block only. Later blocks are frozen and not run.
        frozen_stages: -1: none; 0: the embeddings; n: the embeddings and n blocks.
        drop_path_rate: Drop path rate of the last block. Rates grow linearly from 0.
        with_cp: Whether to recompute blocks in the backward pass to save memory.
        adaptors: As in :class:`~mmadaptor.models.VMamba`. `blocks` is a list with one
            list of block indices, because there is one stage.
        trainable: As in :class:`~mmadaptor.models.VMamba`.
        init_cfg: mmengine's initialization config. `Pretrained` is strict: loading
            fails unless the file holds every parameter and nothing else. Adaptors
            may be missing.

    Attributes:
        embed_dims: Channels of the tokens.
        out_channels: Channels of each of `out_indices`.
        strides: Pixels of the image per pixel of each of their maps.

    Raises:
        ValueError: An argument is out of range or unknown.

    Example:
        >>> import torch
        >>> from mmadaptor.models import Vim
        >>> backbone = Vim('tiny', out_type='featmap')
        >>> [tuple(map.shape) for map in backbone(torch.rand(1, 3, 64, 48))]
        [(1, 192, 4, 3)]

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
        out_indices: int | Sequence[int] = (-1,),
        frozen_stages: int = -1,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        adaptors: dict | None = None,
        trainable: Sequence[str] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(in_channels, drop_path_rate, with_cp, trainable, init_cfg)
        arch = self._settings(arch, ARCH_KEYS)
        self.out_type, self.frozen_stages = out_type, frozen_stages
        dims, depth = arch['embed_dims'], arch['depth']
        for name, value in arch.items():
            check_integer(f'{name}` of `arch', value)
        if out_type not in OUT_TYPES:
            raise ValueError(
                f'`out_type` must be one of {list(OUT_TYPES)}, got {out_type!r}'
            )
        self.out_indices = checked_indices(out_indices, depth)
        self.embed_dims = dims
        self.out_channels = (dims,) * len(self.out_indices)
        check_integer('frozen_stages', frozen_stages, -1, depth)
        check_integer('patch_size', patch_size)
        self.strides = (patch_size,) * len(self.out_indices)
        sides = (img_size, img_size) if is_integer(img_size) else img_size
        if len(integers_of(sides, 1) or ()) != 2:
            raise ValueError(
                '`img_size` must be an integer of 1 or more or a pair of them, '
                f'got {img_size!r}'
            )
        self.patch_size = patch_size
        self.patch_embed = PatchEmbed(in_channels, dims, patch_size)
        self.grid = tuple(-(-side // patch_size) for side in sides)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dims))
        self.pos_embed = nn.Parameter(
            torch.empty(1, self.grid[0] * self.grid[1] + 1, dims)
        )
        self.reset_parameters()
        (carried,) = adaptors_of_blocks(adaptors, [depth])
        last = max(depth - 1, 1)
        self.layers = nn.ModuleList(
            VimBlock(dims, drop_path_rate * i / last, with_cp, mixer)
            for i, mixer in enumerate(carried)
        )
        self.norm = nn.RMSNorm(dims, eps=EPSILON)
        self.patch_map = nn.Identity()
        self.apply_tuning(adaptors)

    def reset_parameters(self) -> None:
        """Initialize the embeddings; layers have methods of their own."""
        for embedding in (self.cls_token, self.pos_embed):
            nn.init.normal_(embedding, std=0.02)

    def shape_hint(self, name: str, shape: tuple[int, ...]) -> str:
        """Return how to load a parameter of another shape; empty if unknown.

        Args:
            name: Name of the parameter.
            shape: Its shape in the checkpoint.
        """
        if name != 'pos_embed' or len(shape) != 3 or shape[2] != self.embed_dims:
            return ''
        side = math.isqrt(shape[1] - 1)
        square = side**2 == shape[1] - 1
        known = f'={side * self.patch_size}' if square else ' of its training'
        return (
            f'\nThe checkpoint is of another image size: set `img_size`{known}. Images '
            'of any size fit all the same, because positions are resized to each.'
        )

    def _freeze_stages(self) -> None:
        # A distributed job would wait for the gradients of unused blocks. They may
        # share adaptors with used ones.
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
            The depth (0 for the embeddings, 1 for the first block) and the number of
            depths.
        """
        name, depths = param_name.removeprefix(prefix), len(self.layers) + 2
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, depths
        first = name.startswith(('patch_embed.', 'cls_token', 'pos_embed'))
        return 0 if first else depths - 1, depths

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed patches and class token, with their positions.

        Args:
            images: `(B, in_channels, H, W)`.

        Returns:
            The sequence, `(B, M + 1, C)`, and the rows and columns of the M
            patches.
        """
        # Bottom and right, to multiples of `patch_size`. Without a condition, which a
        # trace would keep as it was for the traced image. Not -width % patch_size,
        # which torch.compile does not take for a dynamic width.
        patch = self.patch_size
        height, width = images.shape[2:]
        bottom, right = (
            (side + patch - 1) // patch * patch - side for side in (height, width)
        )
        images = F.pad(images, (0, right, 0, bottom))
        patches, size = self.patch_embed(images)  # (B, M, C)
        # Not len(patches), which a trace would keep as a constant.
        class_token = self.cls_token.expand(patches.shape[0], -1, -1)
        x = insert_class_token(patches, class_token)
        return x + resize_positions(self.pos_embed, self.grid, size), size

    def forward(self, images: Tensor, mask: None = None) -> tuple[Tensor, ...]:
        """Compute the outputs of `out_indices`.

        Args:
            images: `(B, in_channels, H, W)`, of any size.
            mask: None, which mmpretrain's masked image modeling passes to extract
                features.

        Returns:
            For each of `out_indices` `(B, C)`, or a contiguous map
            `(B, C, H_i, W_i)`. Its sides are those of the image divided by
            `patch_size`, rounded up.

        Raises:
            ValueError: The images are not a batch, or have no pixels.
        """
        self._check_mask(mask)
        sequences, size = self.sequences(images, self.out_indices)
        outputs = {}
        for i, x in sequences.items():
            class_token, patches = self.split(i, x)
            as_token = self.out_type == 'cls_token'
            outputs[i] = class_token if as_token else self.as_map(i, patches, size)
        return tuple(outputs[i] for i in self.out_indices)

    def sequences(
        self, images: Tensor, indices: Collection[int]
    ) -> tuple[dict[int, Tensor], tuple[int, int]]:
        """Run the blocks until the last of some, and return the outputs of these.

        Args:
            images: `(B, in_channels, H, W)`.
            indices: Indices of blocks.

        Returns:
            The sequences by index, `(B, M + 1, C)`, and the rows and columns of the M
            patches.

        Raises:
            ValueError: The images are not a batch, or have no pixels.
        """
        self._check_images(images)
        x, size = self.embed(images)
        found, last = {}, max(indices)
        # A slice of the layers would be a module, which torch.compile does not make.
        for i, layer in zip(range(last + 1), self.layers, strict=False):
            if i == last and self.out_type == 'cls_token':
                x = self._through_patch_map(x, size)
            x = layer(x, *size)
            if i in indices:
                found[i] = x
        return found, size

    def split(self, index: int, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class token and the patches of a block's output.

        Args:
            index: Index of the block.
            sequence: Its output, `(B, M + 1, C)`.

        Returns:
            `(B, C)` and `(B, M, C)`; those of the last block are normalized.
        """
        if index == len(self.layers) - 1:
            sequence = self.norm(sequence)
        patches, class_token = split_class_token(sequence)
        return class_token.squeeze(1), patches

    def as_map(self, index: int, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the patches `(B, M, C)` of a block as a contiguous `(B, C, *size)`."""
        maps = map_of(patches, size)
        is_last = self.out_type == 'featmap' and index == max(self.out_indices)
        return self.patch_map(maps) if is_last else maps

    def _through_patch_map(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the sequence, whose patches went through `patch_map`."""
        patches, class_token = split_class_token(x)
        patches = self.patch_map(map_of(patches, size)).flatten(2)  # (B, C, M)
        return insert_class_token(patches.transpose(1, 2), class_token)


def map_of(patches: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sequence of patches `(B, M, C)` as a contiguous map `(B, C, *size)`."""
    return patches.transpose(1, 2).unflatten(2, size).contiguous()


def resize_positions(
    positions: Tensor, grid: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Resize a position embedding with a class token in its middle.

    Args:
        positions: `(1, M + 1, C)`.
        grid: Rows and columns of its M patches.
        size: Rows and columns of the patches to fit.

    Returns:
        `(1, size[0] * size[1] + 1, C)`. Unchanged if the sizes are equal.
    """
    # A trace or an exported graph serves other sizes too. Equal ones change nothing.
    graph = torch.jit.is_tracing() or torch.compiler.is_exporting()
    if not graph and tuple(grid) == tuple(size):
        return positions
    patches, class_token = split_class_token(positions)
    patches = patches.transpose(1, 2).unflatten(2, grid)  # (1, C, *grid)
    patches = F.interpolate(patches, size, mode='bicubic').flatten(2)
    return insert_class_token(patches.transpose(1, 2), class_token)
