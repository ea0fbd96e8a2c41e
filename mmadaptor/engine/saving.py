# SPDX-License-Identifier: Apache-2.0
"""Where a training saves its checkpoints, and whether it does."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from .distributed import raise_in_all

# mmengine's names of the file system; None: by the path.
LOCAL = (None, 'local', 'disk')


def is_local(out_dir: Any, backend_args: Mapping | None) -> bool:
    """Return whether mmengine writes to the file system."""
    return '://' not in str(out_dir) and (backend_args or {}).get('backend') in LOCAL


def saving_folder(cfg: Config, work_dir: str) -> str:
    """Return the folder into which a config saves its checkpoints, or its address."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    settings = hook if isinstance(hook, Mapping) else vars(hook)
    return _folder(settings.get('out_dir'), settings.get('filename_tmpl'), work_dir)


def _folder(out_dir: Any, template: str | None, work_dir: str) -> str:
    folder = work_dir
    if out_dir is not None and str(out_dir) != work_dir:  # as in CheckpointHook
        folder = os.path.join(out_dir, os.path.basename(work_dir.rstrip(os.sep)))
    below = os.path.dirname(template or '')
    return folder if '{' in below else os.path.join(folder, below).rstrip(os.sep)


def check_saving(runner: Runner, loop: BaseLoop) -> None:
    """Check before a training that its checkpoints can be written, and when.

    The log warns of a hook that saves nothing until the end.

    Raises:
        InputError: A folder of checkpoints cannot be written.
    """
    hooks = [
        hook
        for hook in runner.hooks
        if isinstance(hook, CheckpointHook) and hasattr(hook, 'interval')
    ]
    problem = ''
    for hook in hooks:
        if text := _saves_late(hook, loop):
            runner.logger.warning(text)
        if is_main_process():
            problem = problem or _problem_of_folder(hook, runner.work_dir)
    raise_in_all(problem)


def _problem_of_folder(hook: CheckpointHook, work_dir: str) -> str:
    """Write a small file where a hook will write its checkpoints."""
    settings = hook.file_client_args or hook.backend_args
    if not is_local(hook.out_dir or work_dir, settings):
        return ''
    folder = _folder(hook.out_dir, hook.filename_tmpl, work_dir)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix='.mmadaptor_', dir=folder) as file:
            file.write(b'can be written')
            file.flush()
    except OSError as error:
        return (
            f'{folder}, in which {type(hook).__name__} saves checkpoints, cannot be '
            f'written: {error.strerror or error}. Set its `out_dir` to another folder, '
            'or --work-dir if it has none.'
        )
    return ''


def _saves_late(hook: CheckpointHook, loop: BaseLoop) -> str:
    """Return how a hook saves nothing before the last epoch or iteration."""
    epochs = isinstance(loop, EpochBasedTrainLoop)
    if not epochs and not isinstance(loop, IterBasedTrainLoop):
        return ''
    end = loop.max_epochs if epochs and hook.by_epoch else loop.max_iters
    first = hook.save_begin or hook.interval
    by_iteration_only = hook.by_epoch and not epochs
    if end <= 1 or (hook.interval > 0 and first < end and not by_iteration_only):
        return ''
    unit = 'epochs' if epochs and hook.by_epoch else 'iterations'
    reason = 'An IterBasedTrainLoop has one epoch: set by_epoch=False. '
    return (
        f'{type(hook).__name__} saves no checkpoint to resume from before the end: it '
        f'has interval={hook.interval}, by_epoch={hook.by_epoch}, and the training '
        f'max_{unit.replace("iterations", "iters")}={end}. '
        f'{reason * by_iteration_only}default_hooks.checkpoint.interval is the number '
        f'of {unit} from one checkpoint to the next.'
    )
