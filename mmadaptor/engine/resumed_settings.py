# SPDX-License-Identifier: Apache-2.0
"""Settings that decide how a training continues, compared on a resume."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import Runner

SAVED = 'training'  # the key in the meta of a checkpoint
SECTIONS = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
# What mmengine takes from the checkpoint; of the others, the config decides.
LOADED = ('optim_wrapper.optimizer', 'param_scheduler')
PARTS = ('optimizer', 'param_schedulers')
SHOWN = 12
HOW_TO_LEAVE = (
    'To train with the config alone, start from the weights: '
    '--cfg-options load_from=CHECKPOINT without --resume.'
)


def settings_of(runner: Runner) -> dict[str, str]:
    """Return the settings of a training by their dotted keys."""
    settings = dict(_flatten({key: runner.cfg.get(key) for key in SECTIONS}))
    loader = runner.train_dataloader
    settings['batch_size'] = repr(getattr(loader, 'batch_size', None))
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
        A line for each setting that differs and says which one is used, and for
        each state that the checkpoint lacks.
    """
    lines = [
        f'{part}: not in the checkpoint; it starts as in the config'
        for part in PARTS
        if part not in checkpoint
        and (part != 'param_schedulers' or runner.param_schedulers)
    ]
    saved, now = meta.get(SAVED), settings_of(runner)
    if not isinstance(saved, Mapping):
        return lines
    for key in sorted(saved.keys() | now.keys(), key=str):
        if saved.get(key) != now.get(key):
            loaded = str(key).startswith(LOADED)
            used = 'the checkpoint' if loaded else 'the config'
            lines.append(
                f'{key}: {saved.get(key, "not set")} in the checkpoint, '
                f'{now.get(key, "not set")} in the config; that of {used} is used'
            )
    return lines


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
                    HOW_TO_LEAVE,
                ]
            )
        )
