# SPDX-License-Identifier: Apache-2.0
"""Finds everything that is missing or does not fit before anything long starts.

The datasets and metrics of a job are built here, and the runner uses them: what
is checked is what runs, as the toolbox's own code reads it.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmadaptor.checkpoints.loading import meta_of, peek
from mmadaptor.checkpoints.pretrained import find_pretrained, how_to_make
from mmadaptor.datasets import prepare
from mmadaptor.errors import InputError
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.ops import selective_scan

from ..distributed import raise_in_all
from .content import Part
from .data import JobData
from .dry_run import dry_run
from .heads import check_classes
from .report import Report

if TYPE_CHECKING:
    from ..runner import Runner

__all__ = ['Report', 'dry_run', 'make_embedded_dataset', 'preflight']


def preflight(runner: 'Runner', splits: Sequence[str], needs_base: bool) -> None:
    """Build and check the data of a job, and check its checkpoints.

    Args:
        runner: The runner, before it builds a loop. Built datasets and metrics take
            the place of their configs.
        splits: The data that the job uses: `'train'`, `'val'`, `'test'`.
        needs_base: Whether the model loads the checkpoints of its `init_cfg`.

    Raises:
        InputError: Lists everything that is missing or does not fit.
    """
    report = Report()
    make_embedded_dataset(runner.cfg)
    if needs_base:
        optional = 'train' in splits and not runner.tunes_adaptors()
        _check_pretrained(runner.cfg, report, optional)
    source = runner.source(trains='train' in splits)
    content = source and _check_checkpoint(
        'load_from', source, report, runner.cfg.filename
    )
    _check_ops(runner.model, report)
    data = JobData(runner, splits, report)
    data.build()
    if is_main_process():
        data.check()
        if content and ('train' not in splits or runner._resume):
            _check_trained_classes(source, content, data.parts, report)
        for note in report.notes:
            print_log(note, 'current', logging.WARNING)
    raise_in_all(report.text('Training' if 'train' in splits else 'Test'))
    if report:
        raise InputError(report.text('This process'))


def make_embedded_dataset(cfg: Any) -> None:
    """Make the embedded dataset if a config has `embedded_dataset=ROOT`.

    Raises:
        InputError: The folder holds something else or cannot be written.
    """
    root = cfg.get('embedded_dataset')
    if root is None:
        return
    problem = ''
    if is_main_process():
        try:
            prepare(root)
        except OSError as error:
            problem = f'embedded_dataset: {error}'
    raise_in_all(problem)


def _check_trained_classes(
    path: str, content: dict, parts: Sequence[Part], report: Report
) -> None:
    """Compare the classes of the data with those that a checkpoint was trained on."""
    with report.collect('load_from', path):
        meta = meta_of(content).get('dataset_meta')
        if isinstance(meta, Mapping):
            trained = SimpleNamespace(metainfo=meta)
            for part in parts:
                found = part.key, part.dataset
                check_classes((path, trained), found, report.unless(part.may_relabel))


def _check_pretrained(cfg: Any, report: Report, optional: bool) -> None:
    for key, path in find_pretrained(cfg.get('model'), own=False):
        if _check_checkpoint(key, path, report, cfg.filename) is None:
            without = ', or without one by --from-scratch' * optional
            report.hint(
                f'Start from another checkpoint by --cfg-options {key}=PATH{without}.'
            )


def _check_checkpoint(
    key: str, path: str, report: Report, config: str | None
) -> dict | None:
    """Return the content of a checkpoint, None if it is missing or does not open.

    Addresses are not tried; theirs is empty.
    """
    if '://' in path:
        return {}
    path = os.path.expanduser(path)
    if not report.require(key, path):
        report.hint(how_to_make(path, config))
        return None
    if os.path.isdir(path):
        report.problem(f'{path} is a folder; expected the file of a checkpoint', key)
        return None
    with report.collect(key, path):
        return peek(path)
    return None


def _check_ops(model: torch.nn.Module, report: Report) -> None:
    """Run a scan of one step where a model of ours will run."""
    if not any(isinstance(m, AdaptableBackbone) for m in model.modules()):
        return
    u = next(model.parameters()).new_ones(1, 1, 1)
    try:
        selective_scan(u, u, u[0], u, u).cpu()
    except RuntimeError as error:
        report.problem(str(error).split('\n')[0])
