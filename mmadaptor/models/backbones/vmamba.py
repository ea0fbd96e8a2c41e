# SPDX-License-Identifier: Apache-2.0
"""VMamba: stages of blocks that scan a map in four directions."""

import itertools
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from ..arguments import check_integer, integers_of
from ..layers import Downsample, VMambaBlock
from ..layers.norm import build_norm
from .adaptor_config import adaptors_of_blocks
from .base import AdaptableBackbone, checked_indices

ARCH_KEYS = {'embed_dims', 'depths', 'd_state', 'ssm_ratio'}


class VMamba(AdaptableBackbone):
    """The VMamba backbone (v2, one state, no gate), with optional adaptors.

    Maps are channels last inside; those of the output norms `norm0`, `norm1`, ... are
    channels first, for Grad-CAM and other tools that read a layer.

    Args:
        arch: `'tiny'`, `'small'`, `'base'`, or a dict of `embed_dims` (channels of
            the first stage; each further stage doubles them), `depths` (blocks per
            stage; the named architectures have four stages), `d_state` and
            `ssm_ratio`.
        in_channels: Channels of the image.
        mlp_ratio: Ratio of hidden channels of each perceptron to its input.
        out_indices: Indices of the stages whose maps are returned, or a single one.
            Negative indices count from the end. Later stages are frozen and not run.
        frozen_stages: -1: none; 0: the stem; n: the stem and the first n stages.
        drop_path_rate: Drop path rate of the last block. Rates grow linearly from 0.
        with_cp: Whether to recompute blocks in the backward pass to save memory.
        norm_cfg: Config of the normalization over the channels of each pixel.
            Default: LayerNorm.
        adaptors: None, or a dict of `temporal` (arguments of
            :class:`~mmadaptor.models.layers.AdaptorT`), `spatial` (arguments of
            :class:`~mmadaptor.models.layers.AdaptorS`), `blocks` (for each stage the
            indices of the blocks with adaptors; default: all), and `share` (True:
            blocks of equal width share their adaptors).
        trainable: None: everything trains. A list of `'adaptors'`, `'norms'`,
            `'biases'` and regular expressions for names of parameters: only these
            train, and the rest is frozen in evaluation mode. Drop path stays on in
            blocks that train more than adaptors. An empty list is a linear probe.
        scan_init: `'vmamba'`, as published, or `'balanced'`, for trainings from
            scratch that are too short for the scan to grow from its small initial
            output (:class:`~mmadaptor.models.layers.SS2D`).
        init_cfg: mmengine's initialization config. `Pretrained` is strict: loading
            fails unless the file holds every parameter and nothing else. Adaptors
            may be missing, and output norms may differ.

    Attributes:
        embed_dims: Channels of the first stage.
        out_channels: Channels of the map of each of `out_indices`.
        strides: Pixels of the image per pixel of each of these maps.

    Raises:
        ValueError: An argument is out of range or unknown, or `norm_cfg` is not a norm
            over the last dimension.

    Example:
        >>> import torch
        >>> from mmadaptor.models import VMamba
        >>> booster = VMamba('tiny', adaptors=dict(temporal=dict(), spatial=dict()))
        >>> [tuple(map.shape) for map in booster(torch.rand(1, 3, 32, 32))]
        [(1, 96, 8, 8), (1, 192, 4, 4), (1, 384, 2, 2), (1, 768, 1, 1)]

    Source:
        VMamba (arXiv 2401.10166). One norm per output as in its detection and
        segmentation models.
    """

    arch_settings: Mapping[str, dict] = {
        'tiny': dict(embed_dims=96, depths=(2, 2, 8, 2), d_state=1, ssm_ratio=1.0),
        'small': dict(embed_dims=96, depths=(2, 2, 15, 2), d_state=1, ssm_ratio=2.0),
        'base': dict(embed_dims=128, depths=(2, 2, 15, 2), d_state=1, ssm_ratio=2.0),
    }
    optional_keys = (r'^stages\..*\.(temporal|spatial)\.', r'^norm\d\.')
    surplus_keys = (r'^norm\d\.',)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        mlp_ratio: float = 4.0,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        adaptors: dict | None = None,
        trainable: Sequence[str] | None = None,
        scan_init: str = 'vmamba',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(in_channels, drop_path_rate, with_cp, trainable, init_cfg)
        arch = self._settings(arch, ARCH_KEYS)
        depths = integers_of(arch['depths'], 1)
        if depths is None:
            raise ValueError(
                '`depths` must be a sequence of integers of 1 or more, '
                f'one per stage, got {arch["depths"]!r}'
            )
        check_integer('embed_dims` of `arch', arch['embed_dims'], 2)  # the stem halves
        check_integer('d_state` of `arch', arch['d_state'])
        self.out_indices = checked_indices(out_indices, len(depths), repeated=False)
        check_integer('frozen_stages', frozen_stages, -1, len(depths))
        self.frozen_stages = frozen_stages
        dims = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        self.embed_dims = dims[0]
        self.out_channels = tuple(dims[i] for i in self.out_indices)
        self.strides = tuple(4 * 2**i for i in self.out_indices)
        block = dict(mlp_ratio=mlp_ratio, with_cp=with_cp, norm_cfg=norm_cfg)
        scan = dict(
            d_state=arch['d_state'], ssm_ratio=arch['ssm_ratio'], scan_init=scan_init
        )
        last = max(sum(depths) - 1, 1)
        rates = (drop_path_rate * i / last for i in itertools.count())

        # A stage holds its blocks; its downsampling layer is separate.
        widths = [(in_channels, dims[0] // 2, dims[0]), *itertools.pairwise(dims)]
        self.downsample_layers = nn.ModuleList(
            Downsample(*channels, norm_cfg=norm_cfg) for channels in widths
        )
        self.stages = nn.ModuleList()
        for dim, carried in zip(
            dims, adaptors_of_blocks(adaptors, depths), strict=True
        ):
            self.stages.append(
                nn.Sequential(
                    *(
                        VMambaBlock(
                            dim,
                            drop_path_rate=next(rates),
                            **block,
                            mixer=dict(**scan, **adaptor),
                        )
                        for adaptor in carried
                    )
                )
            )
        for i in self.out_indices:
            norm = build_norm(norm_cfg, dims[i])
            # Tools that draw a layer, such as Grad-CAM, take the last norm by default
            # and expect (B, C, H, W) of it.
            norm.register_forward_hook(_channels_first)
            self.add_module(f'norm{i}', norm)
        self.apply_tuning(adaptors)

    def _freeze_stages(self) -> None:
        """Freeze the first stages, and set them to evaluation mode.

        Stages that no output needs are frozen too: a distributed job would wait for
        their gradients.
        """
        frozen = [self.downsample_layers[0]] if self.frozen_stages >= 0 else []
        for i in range(self.frozen_stages):
            frozen += [self.downsample_layers[i], self.stages[i]]
        last = max(self.out_indices)
        frozen += [*self.downsample_layers[last + 1 :], *self.stages[last + 1 :]]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter, for layer-wise learning rates.

        Args:
            param_name: The name of the parameter.
            prefix: The prefix of the backbone's names.

        Returns:
            The depth (0 for the stem, 1 for the first block, that of the previous
            block for a downsampling layer) and the number of depths.
        """
        counts = [len(stage) for stage in self.stages]
        depths = sum(counts) + 2
        part, *numbers = param_name.removeprefix(prefix).split('.')
        if part == 'downsample_layers':
            return sum(counts[: int(numbers[0])]), depths
        if part == 'stages':
            return sum(counts[: int(numbers[0])]) + int(numbers[1]) + 1, depths
        return depths - 1, depths

    def forward(self, images: Tensor, mask: None = None) -> tuple[Tensor, ...]:
        """Compute the maps of `out_indices`.

        Args:
            images: `(B, in_channels, H, W)` of any size.
            mask: None, which mmpretrain's masked image modeling passes to extract
                features.

        Returns:
            For each of `out_indices` a contiguous map `(B, C_i, H_i, W_i)`. Its sides
            are those of the image divided by 4 * 2^i, rounded up.

        Raises:
            ValueError: The images are not a batch, or have no pixels.
        """
        self._check_mask(mask)
        maps = self.stage_maps(images, self.out_indices)
        return tuple(getattr(self, f'norm{i}')(maps[i]) for i in self.out_indices)

    def stage_maps(self, images: Tensor, indices: Collection[int]) -> dict[int, Tensor]:
        """Run the stages until the last of some, and return the maps of these.

        Args:
            images: `(B, in_channels, H, W)`.
            indices: Indices of stages.

        Returns:
            The maps by index, `(B, H_i, W_i, C_i)`, before their output norm.

        Raises:
            ValueError: The images are not a batch, or have no pixels.
        """
        self._check_images(images)
        x, maps = images.permute(0, 2, 3, 1), {}  # (B, H, W, in_channels)
        for i in range(max(indices) + 1):
            x = self.stages[i](self.downsample_layers[i](x))
            if i in indices:
                maps[i] = x
        return maps


def _channels_first(norm: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """Return the output `(B, H, W, C)` of a norm as a map `(B, C, H, W)`.

    It is contiguous, because mmcv's RoIAlign ignores strides.
    """
    return output.permute(0, 3, 1, 2).contiguous()
