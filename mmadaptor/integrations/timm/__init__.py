# SPDX-License-Identifier: Apache-2.0
"""The models in the registry of timm."""

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    build_model_with_cfg,
    clean_state_dict,
    generate_default_cfgs,
    register_model,
)
from torch import Tensor, nn

from mmadaptor.checkpoints.loading import read_checkpoint, weights_of
from mmadaptor.checkpoints.strict import (
    BACKBONE,
    Mismatch,
    has_backbone,
    in_backbone,
    unmatched,
)
from mmadaptor.errors import CheckpointMismatchError
from mmadaptor.log import warn
from mmadaptor.models import ARCHITECTURES, Vim
from mmadaptor.models.arguments import check_integer, is_integer
from mmadaptor.models.backbones.base import checked_indices
from mmadaptor.models.backbones.vim import resize_positions
from mmadaptor.models.published import DENSE_HEADS, as_ours

from .base import FeatureGetter
from .maps import MapModel
from .sequence import SequenceModel

HEAD = 'head.fc.'
POSITIONS = f'{BACKBONE}pos_embed'
# Arguments of the backbones, and what takes their place here.
OTHERS = dict(
    arch='the name of the model',
    in_channels='in_chans',
    init_cfg='pretrained_cfg_overlay=dict(file=...)',
    out_indices='features_only=True with it',
    out_type='global_pool',
    with_cp='set_grad_checkpointing()',
)
AVERAGES = ('state_dict_ema', 'model_ema')


def _default_cfg(name: str) -> dict:
    kind, _ = ARCHITECTURES[name]
    stem = 'patch_embed.projection' if kind is Vim else 'downsample_layers.0.0'
    return dict(
        num_classes=1000,
        input_size=(3, 224, 224),
        pool_size=None if kind is Vim else (7, 7),
        crop_pct=0.875,
        interpolation='bicubic',
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        first_conv=BACKBONE + stem,
        classifier='head.fc',
    )


default_cfgs = generate_default_cfgs(
    {name: _default_cfg(name) for name in ARCHITECTURES}
)


def create(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a model, as timm's entry points do.

    Args:
        name: One of `ARCHITECTURES`.
        pretrained: Whether to load the `file` of `pretrained_cfg_overlay`, strictly:
            of a classifier, a detector, a segmentor or a backbone of ours, or
            published. Adaptors may be missing. The classifier is left out where the
            number of classes differs.
        kwargs: Arguments of `timm.create_model` and of the backbone.

    Returns:
        A classifier, or with `features_only=True` the maps of `out_indices`.

    Raises:
        ValueError: An argument is wrong.
        TypeError: A keyword is unknown.
        InputError: The file is missing, damaged, or of another model.
    """
    kind, arch = ARCHITECTURES[name]
    model_class = SequenceModel if kind is Vim else MapModel
    features_only = kwargs.get('features_only')
    for key in OTHERS.keys() & kwargs.keys():
        if key != 'out_indices' or not features_only:
            raise TypeError(f'`{key}` is not an argument here: use {OTHERS[key]}')
    build, feature_cfg = functools.partial(model_class, kind, arch), {}
    if features_only:
        indices = _levels_of(name, kwargs)
        if kind is not Vim:
            build = functools.partial(build, normed=sorted(set(indices)))
        kwargs |= dict(num_classes=0, out_indices=indices)
        feature_cfg = dict(feature_cls=FeatureGetter, norm=True)
    overlay = dict(kwargs.pop('pretrained_cfg_overlay', None) or {})
    if pretrained and overlay.get('file') and not overlay.get('state_dict'):
        overlay['state_dict'] = _read(os.fspath(overlay['file']))
    model = build_model_with_cfg(
        build,
        name,
        pretrained,
        pretrained_cfg_overlay=overlay,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=feature_cfg,
        **kwargs,
    )
    model.pretrained_cfg.pop('state_dict', None)
    return model


def _levels_of(name: str, kwargs: dict) -> tuple[int, ...]:
    """Return the `out_indices` of `features_only`, counted from the start."""
    feature_cls = kwargs.pop('feature_cls', 'getter')
    if feature_cls != 'getter':
        raise ValueError(f"`feature_cls` must be 'getter', got {feature_cls!r}")
    kind, arch = ARCHITECTURES[name]
    settings = kind.arch_settings[arch]
    count = settings['depth'] if kind is Vim else len(settings['depths'])
    indices = kwargs.get('out_indices', 3 if kind is Vim else count)
    if is_integer(indices):  # so many last ones, as in timm
        check_integer('out_indices', indices, 1, count)
        return tuple(range(count - indices, count))
    return checked_indices(indices, count)


def _read(source: str) -> dict[str, Tensor]:
    """Read a file as timm does, averaged weights first, by our safer reader."""
    content = read_checkpoint(source)
    averages = (content[key] for key in AVERAGES if content.get(key) is not None)
    return clean_state_dict(weights_of(next(averages, content), source))


def checkpoint_filter_fn(
    state_dict: Mapping[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """Make a state dict ready for timm, which adapts the first convolution.

    Args:
        state_dict: Of a classifier, a detector, a segmentor or a backbone of ours, or
            published.
        model: The model that gets it.

    Returns:
        All weights of the model by its names, without a classifier of other classes.

    Raises:
        CheckpointMismatchError: Names are missing or left over, or positions cannot
            be resized.
    """
    cfg, backbone = model.pretrained_cfg, model.backbone
    source = str(cfg.get('file') or 'The pretrained state dict')
    state = as_ours(state_dict, source)
    if not has_backbone(state):
        state = {BACKBONE + name: value for name, value in state.items()}
    state = {n: v for n, v in state.items() if not DENSE_HEADS.match(n)}
    expected = model.state_dict()
    weight = state.get(f'{HEAD}weight')
    if weight is not None and len(weight) == model.num_classes:
        cfg['num_classes'] = model.num_classes  # so that timm keeps the classifier
    if model.num_classes != cfg['num_classes']:
        state, expected = _without_head(state), _without_head(expected)
    absent = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    mismatch = Mismatch(
        missing=unmatched(absent, in_backbone(backbone.optional_keys)),
        unexpected=unmatched(surplus, in_backbone(backbone.surplus_keys)),
    )
    if mismatch:
        raise CheckpointMismatchError(
            f'{source} does not fit {cfg["architecture"]}.\n{mismatch}'
        )
    if absent:
        warn(
            f'{source} lacks {len(absent)} weights, such as {min(absent)}. '
            'They keep their initial values.'
        )
    state = {name: state.get(name, value) for name, value in expected.items()}
    if isinstance(backbone, Vim):
        state[POSITIONS] = _fit_positions(state[POSITIONS], backbone, source)
    return state


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: v for name, v in state.items() if not name.startswith(HEAD)}


def _fit_positions(positions: Tensor, backbone: Vim, source: str) -> Tensor:
    """Resize the positions of a square image to the `img_size` of a model."""
    shape = tuple(backbone.pos_embed.shape)
    if positions.shape == shape:
        return positions
    tokens = positions.shape[1] - 1 if positions.dim() == 3 else -1
    side = math.isqrt(max(tokens, 0))
    if tokens < 1 or side**2 != tokens or positions.shape[2] != shape[2]:
        raise CheckpointMismatchError(
            f'{source}: {POSITIONS}: expected {shape} or the positions of a square '
            f'image, got {tuple(positions.shape)}'
        )
    return resize_positions(positions.float(), (side, side), backbone.grid)


def _entry_point(name: str) -> Callable[..., nn.Module]:
    def entry_point(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create(name, pretrained, **kwargs)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = f'Create {name}; see :func:`create`.'
    return entry_point


for _name in ARCHITECTURES:
    globals()[_name] = register_model(_entry_point(_name))
