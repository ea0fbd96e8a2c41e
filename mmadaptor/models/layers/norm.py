# SPDX-License-Identifier: Apache-2.0
"""Normalization layers from OpenMMLab's `norm_cfg`."""

import inspect
from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

LAYERS = dict(LN=nn.LayerNorm, RMSNorm=nn.RMSNorm)


def build_norm(norm_cfg: Mapping | None, channels: int) -> nn.Module:
    """Build a normalization over the last dimension.

    Args:
        norm_cfg: `type` and its other arguments. A type is a class, `'LN'`,
            `'RMSNorm'`, or a name in the registries of OpenMMLab, which needs mmcv.
            `requires_grad=False` freezes it, and `eps` is 1e-5 by default. None:
            LayerNorm.
        channels: Size of the last dimension.

    Raises:
        ValueError: It is not a dict with a type, the type is unknown, or the norm is
            over another dimension.
    """
    norm_cfg = dict(type='LN') if norm_cfg is None else norm_cfg
    if not isinstance(norm_cfg, Mapping) or 'type' not in norm_cfg:
        raise ValueError(
            f'`norm_cfg` must be a dict with a `type` or None, got {norm_cfg!r}'
        )
    arguments = dict(norm_cfg)
    kind = arguments.pop('type')
    kind = LAYERS.get(kind, kind)
    if inspect.isclass(kind):
        trains = arguments.pop('requires_grad', True)
        norm = kind(channels, **{'eps': 1e-5, **arguments}).requires_grad_(trains)
    else:
        norm = _from_registry(norm_cfg, channels)
    if isinstance(norm, _NormBase | nn.GroupNorm):
        raise ValueError(
            '`norm_cfg` must be a norm over the last dimension, such as LN, '
            f'because maps are channels last, got {norm_cfg}'
        )
    return norm


def _from_registry(norm_cfg: Mapping, channels: int) -> nn.Module:
    try:
        from mmcv.cnn import build_norm_layer
    except ImportError as error:
        raise ValueError(
            f'`type` of `norm_cfg` must be a class or one of {list(LAYERS)} where mmcv '
            f'is not installed, got {norm_cfg["type"]!r}'
        ) from error
    return build_norm_layer(norm_cfg, channels)[1]
