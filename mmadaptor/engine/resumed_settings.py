# SPDX-License-Identifier: Apache-2.0
"""Settings that decide how a training continues, compared on a resume."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch.optim import Optimizer

from mmadaptor.errors import DamagedFileError, InputError

SAVED = 'training'  # the key in the meta of a checkpoint
SECTIONS = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
PARTS = ('optimizer', 'param_schedulers')
SHOWN = 12
OPTIMIZER = 'optim_wrapper.optimizer.type'
LONGEST = 200  # characters of a value
# What changes as a training goes on, or follows from other numbers.
PROGRESS = {'params', 'lr', 'last_step', '_global_step', '_last_value', 'base_values'}
# States of torch's optimizers that have the shape of their parameter.
MOMENTS = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'momentum_buffer')
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


def differences(meta: Mapping, checkpoint: Mapping, runner: Runner) -> list[str]:
    """Compare a resumed checkpoint with the config.

    Args:
        meta: The meta of the checkpoint.
        checkpoint: Its content.
        runner: The runner of the config.

    Returns:
        A line for each setting that differs, and for each state that the
        checkpoint lacks.

    Raises:
        InputError: The checkpoint has the states of another optimizer, of other
            groups of parameters, or of other schedules.
    """
    lines = [
        f'{part}: not in the checkpoint; it starts as in the config'
        for part in PARTS
        if part not in checkpoint
        and (part != 'param_schedulers' or runner.param_schedulers)
    ]
    if 'ema_state_dict' in checkpoint and not any(
        isinstance(hook, EMAHook) for hook in runner.hooks
    ):
        lines.append(
            'ema_state_dict: in the checkpoint, but the config has no EMAHook; the '
            'training continues from the averaged weights'
        )
    saved, now = meta.get(SAVED), settings_of(runner)
    known = isinstance(saved, Mapping)
    saved = saved if known else {}
    before, wanted = saved.get(OPTIMIZER), now.get(OPTIMIZER)
    if before and wanted and before != wanted and 'optimizer' in checkpoint:
        raise InputError(
            f'The checkpoint has the states of the optimizer {str(before)[:LONGEST]}, '
            f'the config {wanted}. {HOW_TO_LEAVE}'
        )
    states = list(_states(checkpoint, runner))
    if not known:  # a checkpoint of another runner
        return lines + states
    for key in sorted(saved.keys() | now.keys(), key=str):
        before = str(saved.get(key, 'not set'))[:LONGEST]
        if before != now.get(key, 'not set')[:LONGEST]:
            lines.append(
                f'{key}: {before} in the checkpoint, {now.get(key, "not set")} in the '
                'config'
            )
    return lines


def _states(checkpoint: Mapping, runner: Runner) -> Iterator[str]:
    """Compare the numbers that a resume takes from the checkpoint with the config."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers
    if isinstance(wrapper, OptimWrapperDict) or not isinstance(schedulers, list):
        return
    groups = wrapper.optimizer.state_dict()['param_groups']
    states = [scheduler.state_dict() for scheduler in schedulers]
    loaded = (checkpoint.get('optimizer') or {}).get('param_groups', groups)
    if _is_listed(loaded):
        loaded = _upgraded(wrapper.optimizer, loaded)
    what = 'groups of parameters or optimizers'
    yield from _compare('optimizer', what, loaded, groups, _fits_group)
    loaded = checkpoint.get('param_schedulers') or states
    # Neither names its type.
    yield from _compare('param_scheduler', 'schedules', loaded, states, _fits_schedule)


def _is_listed(states: Any) -> bool:
    return isinstance(states, list) and all(isinstance(s, Mapping) for s in states)


def _upgraded(optimizer: Optimizer, groups: list[Mapping]) -> list[dict]:
    """Add what an optimizer itself adds to groups of an older version of torch."""
    groups = [dict(group) for group in groups]
    state = dict(optimizer.__getstate__(), state={}, param_groups=groups)
    copy.copy(optimizer).__setstate__(state)
    return groups


def _fits_group(old: Mapping, new: Mapping) -> bool:
    """Return whether a group can be read; it may have keys of a later version."""
    parameters = old.get('params')
    size = len(parameters) if isinstance(parameters, list) else None
    return size == len(new['params']) and new.keys() <= old.keys()


def _fits_schedule(old: Mapping, new: Mapping) -> bool:
    return old.keys() == new.keys()


def _compare(
    key: str, what: str, before: Any, now: list[dict], fits: Callable
) -> Iterator[str]:
    same = _is_listed(before) and len(before) == len(now)
    if not (same and all(map(fits, before, now))):
        raise InputError(
            f'`{key}`: the checkpoint has the states of other {what} than the config. '
            f'{HOW_TO_LEAVE}'
        )
    for i, (old, new) in enumerate(zip(before, now, strict=True)):
        for name in sorted(new.keys() - PROGRESS):
            if repr(old[name]) != repr(new[name]):
                yield (
                    f'{key}.{i}.{name}: {repr(old[name])[:LONGEST]} in the checkpoint, '
                    f'{repr(new[name])[:LONGEST]} in the config'
                )


def check_states(optimizer: Optimizer, source: str) -> None:
    """Compare the resumed states of an optimizer with its parameters.

    Raises:
        DamagedFileError: A state has another shape than its parameter.
    """
    for parameter, states in optimizer.state.items():
        for name in MOMENTS:
            value = states.get(name)
            if value is not None and getattr(value, 'shape', None) != parameter.shape:
                raise DamagedFileError(
                    f'{source} cannot be resumed from: its optimizer has {name} of '
                    f'shape {tuple(getattr(value, "shape", ()))} for a parameter of '
                    f'shape {tuple(parameter.shape)}.'
                )


def report(meta: Mapping, checkpoint: Mapping, runner: Runner, source: str) -> None:
    """Log what a resumed training does otherwise than the one that was stopped."""
    lines = differences(meta, checkpoint, runner)
    if lines:
        more = [f'and {len(lines) - SHOWN} more'] if len(lines) > SHOWN else []
        runner.logger.warning(
            '\n  '.join(
                [
                    f'{source} is resumed otherwise than it was trained:',
                    *lines[:SHOWN],
                    *more,
                    WHICH,
                    HOW_TO_LEAVE,
                ]
            )
        )
