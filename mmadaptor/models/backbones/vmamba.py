# SPDX-License-Identifier: Apache-2.0
"""VMamba: stages of blocks that scan a map in four directions."""

import itertools
from collections.abc import Mapping, Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmadaptor.registry import BACKBONES

from ..layers import Downsample, VMambaBlock
from .adaptor_config import adaptors_of_blocks
from .base import AdaptableBackbone, checked_indices

ARCH_KEYS = {'embed_dims', 'depths', 'd_state', 'ssm_ratio'}


@BACKBONES.register_module()
class VMamba(AdaptableBackbone):
    """The VMamba backbone (v2, one state, no gate), with adaptors if asked.

    Args:
        arch: `'tiny'`, `'small'`, `'base'`, or a dict of `embed_dims` (of the
            first stage; each further one doubles it), `depths` (blocks of each
            stage, four by name), `d_state` and `ssm_ratio`.
        in_channels: Channels of the image.
        mlp_ratio: Hidden channels of each perceptron per channel.
        out_indices: The stages whose maps are returned, from 0. Those after
            the last of them are not run, and frozen.
        frozen_stages: -1: none; 0: the stem; n: the stem and stages 1 to n.
        drop_path_rate: Of the last block; it grows from 0 block by block.
        with_cp: Whether to recompute blocks in the backward pass, which saves
            memory.
        norm_cfg: The normalisation, over the channels of each pixel; the
            default is LayerNorm.
        adaptors: None, or a dict of `temporal` (arguments of
            :class:`~mmadaptor.models.layers.AdaptorT`), `spatial` (those of
            :class:`~mmadaptor.models.layers.AdaptorS`), `blocks` (for each
            stage the indices of the blocks that carry them; default: all), and
            `share` (True: blocks of equal width share theirs).
        trainable: What trains: None for everything, or a list of
            `'adaptors'`, `'norms'` and `'biases'`, and the rest is frozen and
            stays in evaluation mode; an empty list is a linear probe.
        scan_init: `'vmamba'`, as published, or `'balanced'`, for trainings
            from scratch too short for the scan to grow from its small start
            (:class:`~mmadaptor.models.layers.SS2D`).
        init_cfg: mmengine's initialisation config. `Pretrained` is strict: its
            file holds every parameter and nothing else, or loading fails; but
            it may lack adaptors, and have other output norms.

    Raises:
        ValueError: For an unknown `arch`, stage, block, adaptor key or
            `scan_init`, or a norm of other dimensions.

    Source:
        VMamba (arXiv 2401.10166); a norm for each output as in its detection
        and segmentation models.
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
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        adaptors: dict | None = None,
        trainable: Sequence[str] | None = None,
        scan_init: str = 'vmamba',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(drop_path_rate, trainable, init_cfg)
        arch = self._settings(arch, ARCH_KEYS)
        depths = arch['depths']
        if (
            not isinstance(depths, Sequence)
            or not depths
            or not all(isinstance(n, int) and n > 0 for n in depths)
        ):
            raise ValueError(
                f'`depths` must be a number for each stage, 1 or more, got {depths}'
            )
        self.out_indices = checked_indices(
            out_indices, range(len(depths)), repeated=False
        )
        self.frozen_stages = frozen_stages
        self._check_frozen_stages(len(depths))
        dims = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        norm_cfg = norm_cfg or dict(type='LN')
        _check_norm(norm_cfg, dims[0])
        block = dict(mlp_ratio=mlp_ratio, with_cp=with_cp, norm_cfg=norm_cfg)
        scan = dict(
            d_state=arch['d_state'], ssm_ratio=arch['ssm_ratio'], scan_init=scan_init
        )
        last = max(sum(depths) - 1, 1)
        rates = (drop_path_rate * i / last for i in itertools.count())

        # A stage is its blocks; before it comes what makes its map.
        half = dims[0] // 2
        stem = Sequential(
            Downsample(in_channels, half),
            build_norm_layer(norm_cfg, half)[1],
            nn.GELU(),
            Downsample(half, dims[0]),
            build_norm_layer(norm_cfg, dims[0])[1],
        )
        self.downsample_layers = ModuleList([stem])
        for narrow, wide in itertools.pairwise(dims):
            self.downsample_layers.append(
                Sequential(
                    Downsample(narrow, wide), build_norm_layer(norm_cfg, wide)[1]
                )
            )
        self.stages = ModuleList()
        for dim, carried in zip(
            dims, adaptors_of_blocks(adaptors, depths), strict=True
        ):
            self.stages.append(
                Sequential(
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
            self.add_module(f'norm{i}', build_norm_layer(norm_cfg, dims[i])[1])
        self.apply_tuning(adaptors)

    def _freeze_stages(self) -> None:
        """Fix the first stages' parameters; dropout and the like go off.

        And those of stages that no output needs: a distributed job would wait
        for their gradients.
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
            The depth, 0 for the stem, 1 for the first block, that of the last
            block before it for a downsampling layer, and the number of depths.
        """
        counts = [len(stage) for stage in self.stages]
        depths = sum(counts) + 2
        part, *numbers = param_name.removeprefix(prefix).split('.')
        if part == 'downsample_layers':
            return sum(counts[: int(numbers[0])]), depths
        if part == 'stages':
            return sum(counts[: int(numbers[0])]) + int(numbers[1]) + 1, depths
        return depths - 1, depths

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the stages asked for.

        Args:
            images: `(B, in_channels, H, W)`, of any size.

        Returns:
            For each of `out_indices` a contiguous map, `(B, C_i, H_i, W_i)`,
            whose sides are those of the image over 4 * 2^i, rounded up.
        """
        x = images.permute(0, 2, 3, 1)  # (B, H, W, in_channels)
        maps = []
        for i, stage in enumerate(self.stages):
            if i > max(self.out_indices):
                break
            x = stage(self.downsample_layers[i](x))
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x)
                # (B, C, H, W), and laid out so: mmcv's RoIAlign reads memory
                # without asking for strides.
                maps.append(out.permute(0, 3, 1, 2).contiguous())
        return tuple(maps)


def _check_norm(norm_cfg: dict, channels: int) -> None:
    norm = build_norm_layer(norm_cfg, channels)[1]
    if isinstance(norm, _NormBase | nn.GroupNorm):
        raise ValueError(
            '`norm_cfg` must name a norm over the last dimension, '
            f'such as LN, for maps are channels last, got '
            f'{norm_cfg}'
        )
