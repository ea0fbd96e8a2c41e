# SPDX-License-Identifier: Apache-2.0
"""Finds all that is missing before anything long starts."""

import importlib.util
import logging
import os
import re
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmadaptor.checkpoints.loading import peek
from mmadaptor.checkpoints.pretrained import find_pretrained, how_to_make
from mmadaptor.errors import InputError, how_to_install

from ..command_line import ADAPTORS_ALONE, has_hook
from .compiled_ops import check_ops
from .datasets import check_data
from .report import Report

TASKS = {
    'mmdet': 'detection (mmdet)',
    'mmseg': 'segmentation (mmseg)',
    'mmpretrain': 'classification (mmpretrain)',
}
LOAD_FROM = 'the checkpoint to load'
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def check_training(cfg: Config) -> None:
    """Checks all that a training needs.

    Args:
        cfg: The config, as the runner will get it.

    Raises:
        InputError: Lists everything that is missing or broken, where it was
            expected and how to go on.
    """
    report = Report()
    for key, checkpoint in find_pretrained(cfg.get('model')):
        if not _check_checkpoint(key, checkpoint, report):
            report.hint(how_to_make(checkpoint, cfg.filename))
            without = (
                ''
                if has_hook(cfg, ADAPTORS_ALONE)
                else ', or without one by --from-scratch'
            )
            report.hint(
                f'Start from another checkpoint by --cfg-options {key}=PATH{without}.'
            )
    _check_load_from(cfg, report)
    _check_job(cfg, ('train', 'val'), report)


def check_test(cfg: Config) -> None:
    """Checks all that a test needs.

    Args:
        cfg: The config, as the runner will get it.

    Raises:
        InputError: Lists everything that is missing or broken.
    """
    check_model(cfg, ('test',))


def check_model(
    cfg: Config, splits: tuple[str, ...] = (), device: str | None = None
) -> None:
    """Checks the checkpoint that a trained model is loaded from.

    Args:
        cfg: The config, which names it by `load_from`.
        splits: Whose data is checked as well.
        device: Where it will run; default: an accelerator if there is one.

    Raises:
        InputError: Lists everything that is missing or broken, or of another
            task than the config.
    """
    report = Report()
    if has_hook(cfg, ADAPTORS_ALONE):
        for key, base in find_pretrained(cfg.get('model')):
            _check_checkpoint(key, base, report)
    _check_load_from(cfg, report)
    if os.path.isfile(cfg.get('load_from') or ''):
        _check_task(cfg, cfg.load_from, report)
    _check_job(cfg, splits, report, device)


def _check_task(cfg: Config, path: str, report: Report) -> None:
    """Notes a checkpoint that another toolbox's model was saved in."""
    try:
        meta = peek(path).get('meta') or {}
    except InputError:
        return
    found = re.search(
        r"^default_scope\s*=\s*'(\w+)'", str(meta.get('cfg', '')), re.MULTILINE
    )
    got, expected = found and found.group(1), cfg.get('default_scope')
    if got and expected and got != expected:
        report.problem(
            f'{path} holds a model of {TASKS.get(got, got)}, but '
            f'the config is of {TASKS.get(expected, expected)}'
        )


def _check_job(
    cfg: Config, splits: tuple[str, ...], report: Report, device: str | None = None
) -> None:
    scope = cfg.get('default_scope')
    missing = how_to_install(scope)
    if missing and importlib.util.find_spec(scope) is None:
        report.problem(f'the config needs {missing}')
    elif _is_first_process():
        check_ops(cfg.get('model'), report, device)
        for split in splits:
            check_data(cfg, split, report)
    report.raise_problems()
    for note in report.notes:
        print_log(note, 'current', logging.WARNING)


def _is_first_process() -> bool:
    """Of many processes one reads the annotations; if it stops, all stop."""
    return all(os.environ.get(name, '0') == '0' for name in RANKS)


def _check_load_from(cfg: Config, report: Report) -> None:
    path = cfg.get('load_from')
    if path and not _check_checkpoint(LOAD_FROM, path, report):
        report.hint(how_to_make(path, cfg.filename))


def _check_checkpoint(key: str, path: Any, report: Report) -> bool:
    """Whether a checkpoint is there and whole; addresses are not asked."""
    if '://' in path:
        return True
    path = os.path.expanduser(path)
    if not report.require(key, path):
        return False
    if os.path.isdir(path):
        return True
    try:
        peek(path)
    except InputError as error:
        report.problem(f'{error}\n     named by {key}')
        return False
    return True
