# SPDX-License-Identifier: Apache-2.0
"""`--cfg-options` whose keys match nothing are errors, not new keys."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    TestLoop,
    ValLoop,
)
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn
from torch.distributed import init_process_group
from torch.utils.data import DataLoader

from mmadaptor.errors import InputError

from .default_hooks import MMENGINES, OURS

NEW = '+'


def _arguments(*made: Callable) -> set[str]:
    names = {name for each in made for name in inspect.signature(each).parameters}
    names = {name for name in names if not name.startswith('_')}
    return names - {'self', 'runner', 'dataloader', 'args', 'kwargs'}


# What may be added to dicts that have no `type`, by their key.
NEW_KEYS = {
    re.compile(key): names
    for key, names in {
        '': _arguments(Runner)
        | {
            *('runner_type', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn'),
            *('compile', 'activation_checkpointing', 'efficient_conv_bn_eval'),
            *('embedded_dataset', 'tta_model', 'tta_pipeline', 'strategy'),
        },
        'train_cfg': _arguments(EpochBasedTrainLoop, IterBasedTrainLoop)
        | {'by_epoch', 'type'},
        'val_cfg|test_cfg': _arguments(ValLoop, TestLoop) - {'evaluator'} | {'type'},
        r'(train|val|test)_dataloader(\.\d+)?': _arguments(DataLoader)
        | {'num_batch_per_epoch'},
        'optim_wrapper': _arguments(OptimWrapper, AmpOptimWrapper)
        | {'type', 'constructor', 'paramwise_cfg'},
        r'optim_wrapper\.clip_grad': _arguments(
            nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_
        )
        - {'parameters'}
        | {'type'},
        r'optim_wrapper\.paramwise_cfg': {
            *('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult'),
            *('flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult'),
            *('bypass_duplicate', 'adaptor_lr_mult', 'layer_decay_rate', 'num_layers'),
            *('decay_rate', 'decay_type', 'force_default_settings'),
        },
        'randomness': _arguments(Runner.set_randomness),
        'auto_scale_lr': {'enable', 'base_batch_size'},
        'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
        r'env_cfg\.mp_cfg': _arguments(set_multi_processing) - {'distributed'},
        r'env_cfg\.dist_cfg': _arguments(init_process_group) | {'init_backend', 'port'},
        'compile': _arguments(torch.compile) - {'model'},
        'default_hooks': {*OURS, *MMENGINES, 'visualization'},
    }.items()
}
# Of any name: of a parameter, or of an argument of a class that need not be named.
FREE = re.compile(r'optim_wrapper\.paramwise_cfg\.custom_keys(\..*)?|data_preprocessor')


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge `--cfg-options`, values by dotted key, into a config.

    A key must exist, or belong to a dict from which something is built: that refuses a
    wrong key by name. Any other key is taken for a misspelling, unless it starts with a
    plus: `+new.key=value`.

    Raises:
        InputError: Keys match nothing. Names the closest ones that exist.
    """
    unknown = [
        f'--cfg-options {key}: {problem}'
        for key in options
        if not key.startswith(NEW) and (problem := _explain(cfg, key))
    ]
    if unknown:
        raise InputError(
            '\n'.join([*unknown, f'To add a new key, write {NEW}key=value.'])
        )
    options = {k.removeprefix(NEW): v for k, v in options.items()}
    for key in options:
        _open_unset(cfg, key)
    cfg.merge_from_dict(options)


def _explain(cfg: Config, key: str) -> str:
    """Return what is wrong with a key; empty if it matches something."""
    node, path = cfg, []
    for part in key.split('.'):
        at = '.'.join(path)
        where = at or 'the config'
        if isinstance(node, list | tuple):
            node = {str(i): value for i, value in enumerate(node)}
        if not isinstance(node, Mapping | Config):
            return f'{where} is of type {type(node).__name__} and has no keys.'
        if part in node:
            node = node[part]
        elif 'type' in node or 'adaptors' in path[-2:] or FREE.fullmatch(at):
            return ''  # what is built from it refuses a wrong key by name
        else:
            known = (names for key, names in NEW_KEYS.items() if key.fullmatch(at))
            new = next(known, set())
            if part in new:
                return ''
            known = {*map(str, node), *new}
            close = difflib.get_close_matches(part, known, 1, 0.5)
            names = (
                f'Did you mean {".".join([*path, *close])}?'
                if close
                else f'It has {", ".join(sorted(known)[:20]) or "no keys"}.'
            )
            return f'{where} has no {part!r}. {names}'
        path.append(part)
        if node is None:
            return ''
    return ''


def _open_unset(cfg: Config, key: str) -> None:
    """Allow keys below a value of None, which mmengine refuses."""
    node = cfg
    for part in key.split('.')[:-1]:
        if isinstance(node, Mapping | Config) and part in node:
            if node[part] is None:
                node[part] = {}
            node = node[part]
        elif isinstance(node, list) and part.isdigit():
            node = node[int(part)]
        else:
            return
