# SPDX-License-Identifier: Apache-2.0
"""Weight decay and learning rates of parameters, from what the layers declare."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

from mmengine.logging import MMLogger, print_log
from mmengine.optim import (
    DefaultOptimWrapperConstructor,
    OptimWrapper,
    OptimWrapperDict,
)
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as CONSTRUCTORS
from mmengine.registry import OPTIMIZERS
from torch import nn

from mmadaptor.errors import InputError
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.models.tuning import ADAPTORS
from mmadaptor.registry import OPTIM_WRAPPER_CONSTRUCTORS, in_scope
from mmadaptor.toolbox_code import has_methods_of_toolbox, of_toolbox

OF_TOOLBOXES = (
    'LearningRateDecayOptimizerConstructor',
    'LayerDecayOptimizerConstructor',
)
CLIPPING = ('update_params', 'step', '_clip_grad')  # the methods that call each other


def each_wrapper(wrapper: OptimWrapper) -> list[OptimWrapper]:
    """Return the optimizer wrappers of a dict of them, such as two of a GAN, or one."""
    several = isinstance(wrapper, OptimWrapperDict)
    return list(wrapper.values()) if several else [wrapper]


def check_clipping(wrapper: OptimWrapper) -> None:
    """Check the arguments of torch's function that clips gradients.

    A user-defined wrapper may clip by another one.

    Raises:
        TypeError: One of them is unknown or missing.
    """
    for one in each_wrapper(wrapper):
        arguments = getattr(one, 'clip_grad_kwargs', None)  # not in all of others
        if not arguments or not has_methods_of_toolbox(type(one), *CLIPPING):
            continue
        taken = signature(one.clip_func)
        try:
            taken.bind([], **arguments)
        except TypeError as error:
            names = ', '.join([*taken.parameters][1:])
            raise TypeError(
                f'clip_grad: {error}; {one.clip_func.__name__} takes {names}'
            ) from error


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer that decays only what is meant to be decayed.

    Layers name their parameters without weight decay in `undecayed`: decay
    rates, steps and skips of the scan, embeddings, scales and places of the
    adaptors. Shared parameters are optimized once.

    Args:
        optim_wrapper_cfg: As for mmengine's constructor.
        paramwise_cfg: mmengine's settings, of which `custom_keys` come before
            what the layers declare, and:

            - `adaptor_lr_mult`: factor on the learning rate of adaptors
              (default: 1).
            - `layer_decay_rate`: factor on the learning rate for each block
              that follows a parameter in the backbone (default: 1). Needs a
              backbone with `get_layer_depth`.

    Source:
        The published VMamba runs decayed the scan's parameters, because the
        flags against it were never read. To do the same, set
        `custom_keys={'A_log': dict(decay_mult=1.), 'dt_': dict(decay_mult=1.)}`.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        paramwise_cfg = {'bypass_duplicate': True, **(paramwise_cfg or {})}
        super().__init__(optim_wrapper_cfg, paramwise_cfg)

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the parameters of a module, a group for each."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        with _muted():  # a line for each parameter
            super().add_params(params, module, prefix, is_dcn_module)
        names = {id(p): name for name, p in module.named_parameters()}
        plain = self._without_decay(module)
        rates = self._rates(module)
        for group in params:
            name = names[id(group['params'][0])]
            custom = self._custom(name)
            if name in plain and 'decay_mult' not in custom:
                group['weight_decay'] = plain[name]
            if rates[name] != 1 and 'lr_mult' not in custom:
                group['lr'] = group.get('lr', self.base_lr) * rates[name]
        self._log_summary(params)

    def _custom(self, name: str) -> dict:
        """Return the custom settings of a parameter, found as mmengine does."""
        keys = self.paramwise_cfg.get('custom_keys', {})
        found = [k for k in sorted(keys, key=lambda k: (-len(k), k)) if k in name]
        return keys[found[0]] if found else {}

    def _without_decay(self, model: nn.Module) -> dict[str, float]:
        """Return the decay of parameters for which mmengine has no rule."""
        found = {}
        norm = self.paramwise_cfg.get('norm_decay_mult')
        for path, module in model.named_modules():
            for name in getattr(module, 'undecayed', ()):
                found[f'{path}.{name}'.lstrip('.')] = 0.0
            if isinstance(module, nn.RMSNorm) and norm is not None:
                found[f'{path}.weight'.lstrip('.')] = self.base_wd * norm
        return found

    def _rates(self, model: nn.Module) -> dict[str, float]:
        """Return the factor on the learning rate of each parameter."""
        rates = defaultdict(lambda: 1.0)
        adaptors = self.paramwise_cfg.get('adaptor_lr_mult', 1.0)
        for path, module in model.named_modules():
            if isinstance(module, ADAPTORS):
                for name, _ in module.named_parameters():
                    rates[f'{path}.{name}'] *= adaptors
        decay = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        if decay == 1:
            return rates
        backbone = getattr(model, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise InputError(
                '`layer_decay_rate` of paramwise_cfg needs a backbone with '
                f'`get_layer_depth`, got {type(backbone).__name__}'
            )
        for name, _ in backbone.named_parameters():
            depth, layers = backbone.get_layer_depth(name)
            rates[f'backbone.{name}'] *= decay ** (layers - 1 - depth)
        return rates

    def _log_summary(self, params: list[dict]) -> None:
        kinds = defaultdict(list)
        for group in params:
            rate = group.get('lr', self.base_lr)
            kind = rate, group.get('weight_decay', self.base_wd)
            kinds[kind].append(group['params'][0].numel())
        for (rate, decay), sizes in sorted(kinds.items(), key=str):
            count = f'{len(sizes)} parameters ({sum(sizes):,} numbers)'
            rates = f'learning rate {rate:.3g} and weight decay {decay or 0:.3g}'
            print_log(f'Optimizer: {count} with {rates}', 'current')


def constructor_of(optim_wrapper: Mapping) -> Any:
    """Return the constructor that the settings of an optimizer wrapper name."""
    name = optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    return in_scope(CONSTRUCTORS, name)


def check_optimizer(optim_wrapper: Mapping) -> None:
    """Check that there is an optimizer of the name in the settings of a wrapper.

    A user-defined constructor may take it from elsewhere.

    Raises:
        KeyError: There is none.
    """
    cfg = optim_wrapper.get('optimizer')
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    known = of_toolbox(constructor_of(optim_wrapper))
    if known and isinstance(kind, str) and in_scope(OPTIMIZERS, kind) is None:
        raise KeyError(f'{kind} is not in the registry of optimizers')


def layer_decay_of_toolbox(optim_wrapper: Any, model: nn.Module) -> Any:
    """Return settings for `OptimWrapperConstructor` for those of mmdet and mmseg.

    Their constructors of layer-wise learning rates only know the names of ConvNeXt,
    BEiT and MAE. As with them, biases and other vectors are not decayed. Settings with
    another constructor, or for another backbone than ours, stay as they are.

    Raises:
        InputError: `decay_type` is not by layers, or `decay_rate` is missing.
    """
    backbone = getattr(getattr(model, 'module', model), 'backbone', None)
    if not isinstance(optim_wrapper, dict) or not isinstance(
        backbone, AdaptableBackbone
    ):
        return optim_wrapper
    constructor = constructor_of(optim_wrapper)
    name = getattr(constructor, '__name__', '')
    if name not in OF_TOOLBOXES or not of_toolbox(constructor):
        return optim_wrapper
    settings = optim_wrapper.get('paramwise_cfg') or {}
    kind, rate = settings.get('decay_type', 'layer_wise'), settings.get('decay_rate')
    if 'layer_wise' not in kind or rate is None:
        raise InputError(
            f'`paramwise_cfg` of {name} must have `decay_rate` and '
            f"decay_type='layer_wise' for {type(backbone).__name__}, got {settings}"
        )
    print_log(
        f'{name} does not know {type(backbone).__name__}: mmadaptor.'
        f'OptimWrapperConstructor is used, with layer_decay_rate={rate} for each block '
        'of the backbone (`num_layers` is not used)',
        'current',
    )
    return {
        **optim_wrapper,
        'constructor': 'mmadaptor.OptimWrapperConstructor',
        'paramwise_cfg': dict(
            layer_decay_rate=rate,
            norm_decay_mult=0.0,
            bias_decay_mult=0.0,
            flat_decay_mult=0.0,
        ),
    }


@contextmanager
def _muted() -> Iterator[None]:
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
