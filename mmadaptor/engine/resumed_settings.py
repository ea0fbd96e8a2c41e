# SPDX-License-Identifier: Apache-2.0
"""Settings that decide how a training continues, compared on a resume."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.registry import (
    LOOPS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    Registry,
)
from mmengine.runner import Runner

from mmadaptor.errors import InputError
from mmadaptor.registry import in_scope
from mmadaptor.toolbox_code import of_library

REGISTRIES = {
    re.compile(r'optim_wrapper(\.\w+)*\.optimizer\.type'): OPTIMIZERS,
    re.compile(r'optim_wrapper(\.\w+)*\.type'): OPTIM_WRAPPERS,
    re.compile(r'optim_wrapper(\.\w+)*\.constructor'): OPTIM_WRAPPER_CONSTRUCTORS,
    re.compile(r'param_scheduler(\.\w+)*\.type'): PARAM_SCHEDULERS,
    re.compile(r'train_cfg\.type'): LOOPS,
}
SAVED = 'training'  # the key in the meta of a checkpoint
SECTIONS = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
PARTS = ('optimizer', 'param_schedulers')
SHOWN = 12
LONGEST = 200  # characters of a value
# States of one of them are no states of another.
KINDS = re.compile(r'(optim_wrapper\.optimizer|param_scheduler\.\d+)\.type')
UNSET = 'not set'
NAME = re.compile(r"(?:<class )?'([\w.]+)'>?")  # a type as text, or as a class
BRACKETS = str.maketrans('()', '[]')
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
    settings = {key: runner.cfg.get(key) for key in SECTIONS}
    settings = _as_list(dict(_flatten(settings)))
    loader = runner.train_dataloader
    batches = getattr(loader, 'batch_sampler', None)  # a loader knows no size of one
    settings['batch_size'] = repr(getattr(batches, 'batch_size', None))
    settings['processes'] = repr(get_world_size())
    return settings


def _as_list(settings: Mapping) -> dict[str, Any]:
    """Number a schedule that stands alone, as in a list of one."""
    lone = 'param_scheduler.type' in settings
    old, new = ('param_scheduler.', 'param_scheduler.0.') if lone else ('', '')
    return {str(key).replace(old, new, 1): settings[key] for key in settings}


def _flatten(node: Any, key: str = '') -> Iterator[tuple[str, str]]:
    sequence = isinstance(node, list | tuple)
    if isinstance(node, Mapping) or (sequence and (_has_dicts(node) or not node)):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in pairs:
            yield from _flatten(value, f'{key}.{name}'.lstrip('.'))
    elif node is not None:
        yield key, repr(node)


def _has_dicts(node: list | tuple) -> bool:
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
    # None of both is in a checkpoint or config that another runner or a program made.
    if isinstance(saved, Mapping) and isinstance(runner.cfg.get(SECTIONS[1]), Mapping):
        lines += _differences(_as_list(saved), now)
    if lines:
        more = [f'and {len(lines) - SHOWN} more'] * (len(lines) > SHOWN)
        title = f'{source} is resumed otherwise than it was trained:'
        text = [title, *lines[:SHOWN], *more, WHICH, HOW_TO_LEAVE]
        runner.logger.warning('\n  '.join(text))


def _differences(saved: Mapping, now: Mapping) -> Iterator[str]:
    for key in sorted(saved.keys() | now.keys()):
        before, wanted = str(saved.get(key, UNSET))[:LONGEST], now.get(key, UNSET)
        if _same(key, before, wanted[:LONGEST]):
            continue
        if KINDS.fullmatch(key) and not _is_own(key, wanted):
            raise InputError(
                f'`{key}`: the checkpoint has the states of {before}, the config says '
                f'{wanted}. {HOW_TO_LEAVE}'
            )
        yield f'{key}: {before} in the checkpoint, {wanted} in the config'


def _is_own(key: str, wanted: str) -> bool:
    """Return whether the config names a user-defined class.

    It may continue from the states of another one, as of the class that it extends.
    """
    named = NAME.fullmatch(wanted)
    kind = in_scope(_registry(key), named[1]) if named else None
    return kind is not None and not of_library(kind)


def _registry(key: str) -> Registry | None:
    """Return the registry of the classes that a setting names."""
    return next((r for k, r in REGISTRIES.items() if k.fullmatch(key)), None)


def _same(key: str, before: str, wanted: str) -> bool:
    """Return whether two texts of a value mean the same."""
    # A command line gives lists, where configs have tuples.
    before, wanted = (text.translate(BRACKETS) for text in (before, wanted))
    if before == wanted:
        return True
    registry = _registry(key)
    names = [NAME.fullmatch(text) for text in (before, wanted)]
    if registry is None or not all(names):
        return False
    saved, named = (found[1] for found in names)
    kind = in_scope(registry, named)
    return kind is not None and _is_named(kind, saved, registry)


def _is_named(kind: type, name: str, registry: Registry) -> bool:
    """Return whether a class has a name, which a checkpoint says: nothing is imported.

    It may be that of the class, of its entry in a registry, with a scope or without,
    or of the module that a config imports it from.
    """
    scope, _, short = name.rpartition('.')
    entries = [
        each.module_dict.get(short)
        for each in (registry, *registry.children.values())
        if scope in ('', each.scope)
    ]
    entries.append(getattr(sys.modules.get(scope), '__dict__', {}).get(short))
    full = f'{kind.__module__}.{kind.__qualname__}'
    return name == full or any(entry is kind for entry in entries)
