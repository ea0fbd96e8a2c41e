# SPDX-License-Identifier: Apache-2.0
"""Computes the metrics of a batch, and compares their names with those of hooks."""

import copy
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook, ParamSchedulerHook
from mmengine.utils import apply_to

from mmadaptor.toolbox_code import of_toolbox

# Metrics of the toolboxes that keep results in `results`, and write only to `FILES`.
METRICS = {
    'Accuracy',
    'AveragePrecision',
    'CocoMetric',
    'ConfusionMatrix',
    'IoUMetric',
    'LVISMetric',
    'MultiLabelMetric',
    'SingleLabelMetric',
    'VOCMetric',
}
FILES = ('outfile_prefix', 'output_dir')


@dataclass
class Names:
    """The names of the metrics of a validation.

    Attributes:
        found: Those of a batch, in their order.
        known: Whether each metric of the evaluator was computed.
        complete: Whether a validation cannot have others.
    """

    found: list[str]
    known: bool = True
    complete: bool = True


def measure(evaluator: Evaluator, outputs: Sequence, batch: Any) -> Names:
    """Compute metrics of a batch alone; its files are written to a temporary folder.

    An evaluator of another class than mmengine's may give a metric only some of the
    samples, and is left out.

    Raises:
        ValueError: Two metrics have the same name.
    """
    copies = [copy.copy(m) for m in evaluator.metrics if _can_be_tried(m)]
    if type(evaluator) is not Evaluator:
        copies = []
    names = Names([], known=0 < len(copies) == len(evaluator.metrics))
    with tempfile.TemporaryDirectory() as folder:
        for metric in copies:
            metric.results = []
            for name in FILES:
                if getattr(metric, name, None) is not None:
                    setattr(metric, name, os.path.join(folder, ''))
            if hasattr(metric, 'img_ids'):  # mmdet's: not all of the annotation file
                metric.img_ids = [sample.img_id for sample in outputs]
        Evaluator(copies).process(data_samples=outputs, data_batch=batch)
        for metric in copies:
            values = metric.compute_metrics(
                apply_to(metric.results, torch.is_tensor, torch.Tensor.cpu)
            )
            names.complete &= _has_all(metric, values)
            names.found += [
                f'{metric.prefix}/{name}' if metric.prefix else name for name in values
            ]
    for name in names.found:
        if names.found.count(name) > 1:
            raise ValueError(f'two metrics of val_evaluator are {name}: set a prefix')
    return names


def _can_be_tried(metric: BaseMetric) -> bool:
    kind = type(metric)
    return kind.__name__ in METRICS and of_toolbox(kind)


def _has_all(metric: BaseMetric, values: dict) -> bool:
    """Return whether a metric cannot have more names with more samples.

    mmdet's metrics of boxes and masks end without names where nothing is predicted.
    """
    if type(metric).__name__ not in ('CocoMetric', 'LVISMetric'):
        return bool(values)
    starts = ['AR' if 'proposal' in kind else f'{kind}_' for kind in metric.metrics]
    return all(any(name.startswith(start) for name in values) for start in starts)


def unmet_names(
    hooks: Sequence[Hook], schedulers: Any, names: Names
) -> Iterator[tuple[str, bool]]:
    """Yield what hooks will not find among the metrics of a validation.

    Compares only hooks that look them up as mmengine's do.

    Yields:
        A sentence, and whether the first validation fails.
    """
    if not names.known or not names.found:
        return
    for hook in hooks:
        for name, text, ends in _lookups(hook, schedulers):
            if name not in names.found:
                metrics = ', '.join(names.found)
                yield f'{text} is none of the metrics of val_evaluator: {metrics}', ends
        if error := _error_of_auto(hook, names.found[0]):
            yield f"save_best='auto' takes the first metric: {error}", True


def _lookups(hook: Hook, schedulers: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield each name that a hook looks up, its setting, and whether it must exist."""
    if _is_like(hook, CheckpointHook):
        for name in hook.save_best or ():
            if name != 'auto':
                yield name, f'save_best={name!r} of {type(hook).__name__}', True
    elif _is_like(hook, EarlyStoppingHook):
        text = f'monitor={hook.monitor!r} of {type(hook).__name__}'
        yield hook.monitor, text, hook.strict
    elif _is_like(hook, ParamSchedulerHook):
        groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
        for scheduler in (part for group in groups for part in group or ()):
            if getattr(scheduler, 'need_val_args', False) and scheduler.by_epoch:
                text = f'monitor={scheduler.monitor!r} of {type(scheduler).__name__}'
                yield scheduler.monitor, text, False  # only from `begin` to `end`


def _is_like(hook: Hook, kind: type[Hook]) -> bool:
    """Return whether a hook does after a validation what mmengine's does."""
    methods = ('after_val_epoch', '_save_best_checkpoint', '_init_rule')
    return isinstance(hook, kind) and all(
        getattr(type(hook), name, None) is getattr(kind, name, None) for name in methods
    )


def _error_of_auto(hook: Hook, name: str) -> str:
    """Return why mmengine cannot save the best by a metric; empty if it need not."""
    if not _is_like(hook, CheckpointHook) or 'auto' not in (hook.save_best or ()):
        return ''
    tried = copy.copy(hook)
    tried.is_better_than = {}
    try:
        tried._init_rule(hook.rules, [name])
    except ValueError as error:
        return str(error)
    return ''
