# SPDX-License-Identifier: Apache-2.0
"""Settings that decide how a training continues, compared on a resume."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from mmadaptor.errors import InputError

SAVED = 'training'  # the key in the meta of a checkpoint
SECTIONS = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
PARTS = ('optimizer', 'param_schedulers')
SHOWN = 12
LONGEST = 200  # characters of a value
# States of one of them are no states of another.
KINDS = re.compile(r'(optim_wrapper\.optimizer|param_scheduler(\.\d+)?)\.type')
UNSET = 'not set'
WHICH = (
    'The numbers of the optimizer (rates and decays of each group) and of the '
    'schedules are those of the checkpoint; all else is as the config says.'
)
HOW_TO_LEAVE = (
    'To train with the numbers of the config, start from the weights: '
    '--cfg-options load_from=CHECKPOINT without --resume.'
)


def settings_of(runner: Runner) -> dict[str, str]:
    """Return the settings of a training by their dotted keys."""
    settings = dict(_flatten({key: runner.cfg.get(key) for key in SECTIONS}))
    loader = runner.train_dataloader
    batches = getattr(loader, 'batch_sampler', None)  # a loader knows no size of one
    settings['batch_size'] = repr(getattr(batches, 'batch_size', None))
    settings['processes'] = repr(get_world_size())
    return settings


def _flatten(node: Any, key: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping) or (isinstance(node, list) and _has_dicts(node)):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in pairs:
            yield from _flatten(value, f'{key}.{name}'.lstrip('.'))
    elif node is not None:
        yield key, repr(node)


def _has_dicts(node: list) -> bool:
    return any(isinstance(item, Mapping) for item in node)


def report(meta: Mapping, checkpoint: Mapping, runner: Runner, source: str) -> None:
    """Log what a resumed training does otherwise than the one that was stopped.

    Raises:
        InputError: The checkpoint has the states of another optimizer or of other
            schedules.
    """
    lines = [
        f'{part}: not in the checkpoint; it starts as in the config'
        for part in PARTS
        if part not in checkpoint
        and (part != 'param_schedulers' or runner.param_schedulers)
    ]
    averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    if 'ema_state_dict' in checkpoint and not averages:
        lines.append(
            'ema_state_dict: in the checkpoint, but the config has no EMAHook; the '
            'training continues from the averaged weights'
        )
    saved, now = meta.get(SAVED), settings_of(runner)
    if isinstance(saved, Mapping):  # no checkpoint of another runner
        lines += _differences(saved, now)
    if lines:
        more = [f'and {len(lines) - SHOWN} more'] * (len(lines) > SHOWN)
        title = f'{source} is resumed otherwise than it was trained:'
        text = [title, *lines[:SHOWN], *more, WHICH, HOW_TO_LEAVE]
        runner.logger.warning('\n  '.join(text))


def _differences(saved: Mapping, now: Mapping) -> Iterator[str]:
    for key in sorted(saved.keys() | now.keys(), key=str):
        before, wanted = str(saved.get(key, UNSET))[:LONGEST], now.get(key, UNSET)
        if before == wanted[:LONGEST]:
            continue
        if KINDS.fullmatch(str(key)):
            raise InputError(
                f'`{key}`: the checkpoint has the states of {before}, the config says '
                f'{wanted}. {HOW_TO_LEAVE}'
            )
        yield f'{key}: {before} in the checkpoint, {wanted} in the config'
