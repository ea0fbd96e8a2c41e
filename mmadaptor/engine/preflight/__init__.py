# SPDX-License-Identifier: Apache-2.0
"""Finds everything that is missing or does not fit before anything long starts.

The datasets and metrics of a job are built here, and the runner uses them: what
is checked is what runs, as the toolbox's own code reads it.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.registry import LOOPS

from mmadaptor.checkpoints.loading import meta_of, peek
from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.checkpoints.pretrained import find_pretrained, how_to_make
from mmadaptor.datasets import prepare
from mmadaptor.datasets.image_files import kind_problem
from mmadaptor.errors import InputError
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.ops import selective_scan
from mmadaptor.registry import in_scope
from mmadaptor.toolbox_code import of_toolbox

from .coco import check_metric, is_coco_metric
from .content import check_content, check_paths, initialize
from .datasets import Built, build, build_leaves, leaves, name_of
from .dry_run import dry_run, kept_random_state
from .heads import check_classes, check_heads, check_metrics, ignored_labels
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
    model = unwrapped(runner.model)
    make_embedded_dataset(runner.cfg)
    if needs_base:
        optional = 'train' in splits and not runner.tunes_adaptors()
        _check_pretrained(runner.cfg, report, optional)
    if runner._load_from:
        _check_checkpoint('load_from', runner._load_from, report, runner.cfg.filename)
    _check_ops(model, report)
    found = _build_data(runner, splits, report)
    if is_main_process():
        _check_data(runner, found, report)
        check_classes([(key, dataset) for key, dataset, _ in found], report)
        if 'train' not in splits or runner._resume:
            _check_trained_classes(runner._load_from, found, report)
        _check_coco_metrics(runner, splits, found, report)
        for note in report.notes:
            print_log(note, 'current', logging.WARNING)
    # The error of the main process ends all.
    text = [report.text('Training' if 'train' in splits else 'Test')]
    broadcast_object_list(text)
    if text[0] or report:
        raise InputError(text[0] or report.text('This process'))


def make_embedded_dataset(cfg: Any) -> None:
    """Make the embedded dataset if a config has `embedded_dataset=ROOT`.

    Raises:
        InputError: The folder holds something else or cannot be written.
    """
    root = cfg.get('embedded_dataset')
    if root is None:
        return
    problem = ['']
    if is_main_process():
        try:
            prepare(root)
        except OSError as error:
            problem = [f'embedded_dataset: {error}']
    broadcast_object_list(problem)
    barrier()
    if problem[0]:
        raise InputError(problem[0])


def _build_data(
    runner: 'Runner', splits: Sequence[str], report: Report
) -> list[tuple[str, Any, list[dict]]]:
    """Build datasets and metrics.

    Returns for each dataset that reads files its key, the dataset, and the content of
    what pycocotools read.
    """
    cfgs, found = {}, []
    for split in splits:
        loader = getattr(runner, f'_{split}_dataloader')
        cfg = loader.get('dataset') if isinstance(loader, dict) else None
        if isinstance(cfg, dict) and not isinstance(cfg.get('type'), Built):
            key = f'{split}_dataloader.dataset'
            cfg, parts = build_leaves(cfg, key, report)
            cfgs |= {split: cfg} if cfg else {}
            found += parts
    before = len(report.missing)
    for key, dataset in found:
        check_paths(key, dataset, report)
    lacking = len(report.missing) > before
    _build_metrics(runner, splits, report)
    if lacking:  # reading annotations may take minutes
        return []
    ignored = ignored_labels(unwrapped(runner.model))
    read = {key: (data, initialize(key, data, report, ignored)) for key, data in found}
    for split, cfg in cfgs.items():
        read |= _wrap(runner, split, cfg, read, report)
    return [(key, data, contents) for key, (data, contents) in read.items()]


def _wrap(
    runner: 'Runner', split: str, cfg: dict, read: dict[str, tuple], report: Report
) -> dict[str, tuple]:
    """Build the wrappers of a dataset that was read, and give it to the runner.

    Returns the keys, datasets and contents of `read` that a wrapper replaced.
    """
    key = f'{split}_dataloader.dataset'
    parts = [data for name, (data, _) in read.items() if name.startswith(key)]
    if not all(getattr(data, '_fully_initialized', True) for data in parts):
        return {}  # `initialize` has said why
    with report.collect(key, name_of(cfg)):
        dataset = build(cfg)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        getattr(runner, f'_{split}_dataloader')['dataset'] = dict(type=Built(dataset))
        # That of several folds takes a part of its dataset.
        return {
            name: (data, read[name][1])
            for name, data in leaves(dataset, key)
            if name in read
        }
    return {}


def _check_data(
    runner: 'Runner', found: list[tuple[str, Any, list[dict]]], report: Report
) -> None:
    """Check datasets against their files, the model and the metrics."""
    images: dict[str, set] = defaultdict(set)
    firsts: dict[str, Any] = {}
    model = unwrapped(runner.model)
    for key, dataset, contents in found:
        split = key.partition('_')[0]
        first = firsts.setdefault(split, dataset)
        with kept_random_state():
            images[split] |= check_content(key, dataset, contents, report)
        check_heads(model, dataset, key, report, first)
        name = f'{split}_evaluator'
        evaluator = getattr(runner, f'_{name}', None)
        if isinstance(evaluator, Evaluator):  # and not the config of a loop's own
            check_metrics(evaluator, dataset, key, name, report, model)
    if both := len(images['train'] & images['val']):
        report.note(
            f'val_dataloader: {both} of its {len(images["val"])} images are in '
            'train_dataloader too'
        )


def _build_metrics(runner: 'Runner', splits: Sequence[str], report: Report) -> None:
    for split in splits:
        key = f'{split}_evaluator'
        evaluator = getattr(runner, f'_{key}', None)
        if not _is_one_evaluation(runner, split):
            continue
        metrics = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
        if all(isinstance(metric, dict) for metric in metrics):
            files = [metric.get('ann_file') or metric.get('type') for metric in metrics]
            pipes = [file for file in map(str, files) if kind_problem(file)]
            if not all([report.require(key, file) for file in pipes]):
                continue
            with report.collect(key, ', '.join(map(str, files))):
                setattr(runner, f'_{key}', runner.build_evaluator(evaluator))


def _is_one_evaluation(runner: 'Runner', split: str) -> bool:
    """Return whether a loop evaluates one data loader by one evaluator.

    One of the user's own may take lists of both.
    """
    loop = getattr(runner, f'_{split}_loop', None)
    kind = loop.get('type') if isinstance(loop, dict) else None
    kind = in_scope(LOOPS, kind) if isinstance(kind, str) else kind
    loader = getattr(runner, f'_{split}_dataloader', None)
    known = kind is None or of_toolbox(getattr(kind, '__init__', None))
    return known and not isinstance(loader, list | tuple)


def _check_coco_metrics(
    runner: 'Runner',
    splits: Sequence[str],
    found: list[tuple[str, Any, list[dict]]],
    report: Report,
) -> None:
    """Check the annotation files that COCO metrics compare with."""
    for split in splits:
        key, loader = f'{split}_evaluator', f'{split}_dataloader.'
        datasets = [data for name, data, _ in found if name.startswith(loader)]
        read = all(getattr(data, '_fully_initialized', True) for data in datasets)
        evaluator, cfgs = getattr(runner, f'_{key}', None), runner.cfg.get(key)
        # That of several datasets has another file for each.
        if type(evaluator) is not Evaluator or not datasets or not read:
            continue
        cfgs = cfgs if isinstance(cfgs, list | tuple) else [cfgs]
        for metric, cfg in zip(evaluator.metrics, cfgs, strict=False):
            if is_coco_metric(metric):
                path = (cfg or {}).get('ann_file') or key
                with report.collect(key, path):
                    check_metric(key, path, metric, datasets, report)


def _check_trained_classes(
    path: str | None, found: list[tuple[str, Any, list[dict]]], report: Report
) -> None:
    """Compare the classes of the data with those that a checkpoint was trained on."""
    if not path or not os.path.isfile(os.path.expanduser(path)):
        return
    with report.collect('load_from', path):
        meta = meta_of(peek(os.path.expanduser(path))).get('dataset_meta')
        if isinstance(meta, Mapping):
            for key, dataset, _ in found:
                trained = SimpleNamespace(metainfo=meta)
                check_classes([(path, trained), (key, dataset)], report)


def _check_pretrained(cfg: Any, report: Report, optional: bool) -> None:
    for key, path in find_pretrained(cfg.get('model')):
        if not _check_checkpoint(key, path, report, cfg.filename):
            without = ', or without one by --from-scratch' * optional
            report.hint(
                f'Start from another checkpoint by --cfg-options {key}=PATH{without}.'
            )


def _check_checkpoint(key: str, path: str, report: Report, config: str | None) -> bool:
    """Return whether a checkpoint exists and opens; addresses are not tried."""
    if '://' in path:
        return True
    path = os.path.expanduser(path)
    if not report.require(key, path):
        report.hint(how_to_make(path, config))
        return False
    if os.path.isdir(path):
        report.problem(f'{path} is a folder; expected the file of a checkpoint', key)
        return False
    before = report.told
    with report.collect(key, path):
        peek(path)
    return report.told == before


def _check_ops(model: torch.nn.Module, report: Report) -> None:
    """Run a scan of one step where a model of ours will run."""
    if not any(isinstance(m, AdaptableBackbone) for m in model.modules()):
        return
    u = next(model.parameters()).new_ones(1, 1, 1)
    try:
        selective_scan(u, u, u[0], u, u).cpu()
    except RuntimeError as error:
        report.problem(str(error).split('\n')[0])
