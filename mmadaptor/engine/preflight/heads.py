# SPDX-License-Identifier: Apache-2.0
"""Compares the numbers of classes of a model and its metrics with a dataset."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from mmadaptor.datasets.checked_pipeline import IGNORED

from .report import Report
from .samples import classes_of

# Heads whose num_classes is not that of the dataset.
OTHER_HEADS = ('rpn_head', 'semantic_head')


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of heads that predict the classes of the dataset."""
    if any(kind.__name__ == 'RPN' for kind in type(model).__mro__):
        return  # it only tells objects from background
    for name, module in model.named_modules():
        last = [part for part in name.split('.') if not part.isdigit()][-1:]
        if last and last[0].endswith('head') and last[0] not in OTHER_HEADS:
            yield name, module


def ignored_labels(model: nn.Module) -> set[int]:
    """Return the labels of semantic masks that the heads of a model ignore."""
    labels = {getattr(head, 'ignore_index', None) for _, head in _heads(model)}
    return {label for label in labels if isinstance(label, int)} or {IGNORED}


def check_heads(
    model: nn.Module, dataset: Any, key: str, report: Report, first: Any = None
) -> None:
    """Compare the number of classes of heads and of one-hot labels with a dataset.

    Args:
        model: The model.
        dataset: The dataset.
        key: Its key in the config.
        report: Takes the problems.
        first: The first of the datasets that are one in a wrapper, as with
            `ignore_keys` of `ConcatDataset`: others may have only its first classes.
    """
    expected = len(classes_of(dataset))
    if expected and classes_of(dataset) == classes_of(first)[:expected]:
        expected = len(classes_of(first))
    counts = {
        f'model.{name}': getattr(head, 'num_classes', None)
        for name, head in _heads(model)
        if not getattr(head, 'class_agnostic', False)
        and not hasattr(head, 'max_text_len')  # its classes are words of a text
    }
    preprocessor = getattr(model, 'data_preprocessor', None)
    if getattr(preprocessor, 'to_onehot', False):  # as mixup and cutmix need
        counts['data_preprocessor'] = preprocessor.num_classes
    for name, got in counts.items():
        if expected and isinstance(got, int) and got != expected:
            report.problem(
                f'{name}.num_classes is {got}, but {key} has {expected} classes'
            )


def check_metrics(
    evaluator: Any, dataset: Any, key: str, evaluator_key: str, report: Report
) -> None:
    """Check that metrics count the classes of a dataset, and not what is ignored."""
    classes = len(classes_of(dataset))
    labels = getattr(getattr(dataset, 'pipeline', None), 'ignored', ())
    for metric in getattr(evaluator, 'metrics', ()):
        topk = getattr(metric, 'topk', ())
        if classes and topk and max(topk) > classes:
            report.problem(
                f'{evaluator_key}: topk of {type(metric).__name__} is '
                f'{tuple(topk)}, but {key} has {classes} classes'
            )
        ignored = getattr(metric, 'ignore_index', None)
        if labels and isinstance(ignored, int) and ignored not in labels:
            report.note(
                f'{evaluator_key}: {type(metric).__name__} ignores label {ignored}, '
                f'but the heads ignore {labels[0]}, which it counts as a mistake'
            )


def check_classes(found: list[tuple[str, Any]], report: Report) -> None:
    """Compare the order of the classes of all datasets of a job: labels are numbers."""
    for key, dataset in found[1:]:
        first, others = classes_of(found[0][1]), classes_of(dataset)
        if not first or not others or first == others:
            continue
        text = (
            f'{{}}: {key} has the classes {", ".join(map(str, others[:5]))}, and '
            f'{found[0][0]} has {", ".join(map(str, first[:5]))}'
        )
        if sorted(map(str, first)) == sorted(map(str, others)):
            report.problem(text.format('The same classes have other labels'))
        elif len(first) == len(others):
            report.note(text.format('The same labels have other names'))
