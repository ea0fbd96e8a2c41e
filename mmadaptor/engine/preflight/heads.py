# SPDX-License-Identifier: Apache-2.0
"""Compares the numbers of classes of a model and its metrics with a dataset."""

from collections.abc import Collection, Iterator
from typing import Any

from mmengine.evaluator import Evaluator
from torch import nn

from mmadaptor.datasets.checked_pipeline import IGNORED
from mmadaptor.toolbox_code import of_library, of_toolbox

from .report import Doubts, Report
from .samples import classes_of, renumbered

# Heads whose num_classes is not that of the dataset, by name and by class.
OTHER_HEADS = ('rpn_head', 'semantic_head')
OTHER_KINDS = (
    'ATSSVLFusionHead',  # its classes are words of a text
    'GroundingDINOHead',  # words of a text
    'LinearReIDHead',  # identities
    'STDCHead',  # boundaries
    'SideAdapterCLIPHead',  # words of a text
    'VPDDepthHead',  # a depth
)
# mmdet names 13 kinds of what is annotated, and gives a label to pedestrians.
OTHER_DATASETS = ('MOTChallengeDataset',)


# Models that give no classes of the dataset: objects, similar images or features.
WITHOUT_CLASSES = ('RPN', 'BaseRetriever', 'BaseSelfSupervisor')


def gives_classes(model: nn.Module) -> bool:
    """Return whether the numbers of classes mean something to a model."""
    return not _names_of(model) & set(WITHOUT_CLASSES)


def reads_labels_itself(model: nn.Module) -> bool:
    """Return whether user-defined code reads the labels that a model gets.

    That is a model, preprocessor, head or loss, which may ignore labels or make them
    others.
    """
    heads = (part for _, head in _heads(model) for part in head.modules())
    parts = (model, getattr(model, 'data_preprocessor', nn.Module()), *heads)
    return not all(of_library(type(part)) for part in parts)


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of heads that predict the classes of the dataset."""
    if 'RPN' in _names_of(model):
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
    model: nn.Module,
    dataset: Any,
    key: str,
    report: Report | Doubts,
    first: Any = None,
    labels: Collection[int] | None = None,
) -> None:
    """Compare the number of classes of heads and of one-hot labels with a dataset.

    `first` is the first of the datasets that are one in a wrapper, as with
    `ignore_keys` of `ConcatDataset`: others may have only its first classes. `labels`
    are those of a user-defined dataset, which may not use all of its classes.
    """
    expected = len(classes_of(dataset))
    if not expected or _names_of(dataset) & set(OTHER_DATASETS):
        return
    if classes_of(dataset) == classes_of(first)[:expected]:
        expected = len(classes_of(first))
    heads = {
        f'model.{name}': head
        for name, head in _heads(model)
        if isinstance(getattr(head, 'num_classes', None), int)
        and not getattr(head, 'class_agnostic', False)
        and not _names_of(head) & set(OTHER_KINDS)
    }
    for name, head in heads.items():
        certain = _is_certain(head, expected) and (
            labels is None or max(labels, default=0) >= head.num_classes
        )
        tell = report.problem if certain else report.note
        if head.num_classes not in _fitting(head, dataset, expected):
            tell(_difference(name, head.num_classes, key, expected))
    preprocessor = getattr(model, 'data_preprocessor', None)
    if getattr(preprocessor, 'to_onehot', False):  # as mixup and cutmix need
        got = getattr(preprocessor, 'num_classes', None)
        fitting = {expected, *(head.num_classes for head in heads.values())}
        if isinstance(got, int) and got not in fitting and (heads or got < expected):
            report.problem(_difference('data_preprocessor', got, key, expected))


def _names_of(thing: Any) -> set[str]:
    """Return the names of the class of an object and of its bases."""
    return {kind.__name__ for kind in type(thing).__mro__}


def _difference(name: str, got: int, key: str, expected: int) -> str:
    return f'{name}.num_classes is {got}, but {key} has {expected} classes'


def _is_certain(head: nn.Module, expected: int) -> bool:
    """Return whether a head of another number of classes cannot be used.

    A classifier or segmentor with more of them learns not to predict the others. In
    mmdet the evaluation ends where one of them is predicted, and `NumClassCheckHook`
    refuses it. In a user-defined head, `num_classes` may count something else.
    """
    kind = type(head)
    certain = of_toolbox(kind) and head.num_classes < expected
    return certain or of_toolbox(kind, 'mmdet')


def _fitting(head: nn.Module, dataset: Any, expected: int) -> set[int]:
    """Return the numbers of classes of a head that fit a dataset of `expected` ones."""
    fitting = {expected}
    # The boxes of a panoptic dataset are those of its things.
    things = (getattr(dataset, 'metainfo', None) or {}).get('thing_classes')
    if things is not None:
        fitting.add(len(things))
    if getattr(dataset, 'reduce_zero_label', False):  # its first name may have no label
        fitting.add(expected - 1)
    # mmseg compares one output with a threshold.
    sigmoid = any(getattr(part, 'use_sigmoid', False) for part in head.modules())
    if expected == 2 and getattr(head, 'out_channels', None) == 1 and sigmoid:
        fitting.add(1)
    return fitting


def check_metrics(
    evaluator: Evaluator, dataset: Any, key: str, report: Report, model: nn.Module
) -> None:
    """Check that metrics count the classes of a dataset, and not what is ignored.

    The model may predict more classes than the dataset has.
    """
    heads = [head for _, head in _heads(model)]
    counts = [getattr(head, 'num_classes', None) for head in heads]
    classes = len(classes_of(dataset))
    outputs = max([classes, *(count for count in counts if isinstance(count, int))])
    # A user-defined one may predict any number.
    are_known = all(of_library(type(part)) for part in (model, *heads))
    labels = getattr(getattr(dataset, 'pipeline', None), 'ignored', ())
    for metric in evaluator.metrics:
        kind = type(metric).__name__
        where = f'{key.partition("_")[0]}_evaluator'
        counts_guesses = kind == 'Accuracy' and of_toolbox(type(metric)) and are_known
        topk = getattr(metric, 'topk', ()) if counts_guesses else ()
        topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if classes and max(topk, default=0) > outputs:
            report.problem(
                f'{where}: topk of {kind} is {topk}, but {key} has {classes} classes'
            )
        ignored = getattr(metric, 'ignore_index', None)
        if labels and isinstance(ignored, int) and ignored not in labels:
            report.note(
                f'{where}: {kind} ignores label {ignored}, but the heads ignore '
                f'{labels[0]}, which it counts as a mistake'
            )


def check_classes(
    first: tuple[str, Any], other: tuple[str, Any], report: Report | Doubts
) -> None:
    """Compare the order of the classes of two datasets of a job: labels are numbers.

    Args:
        first: Key and dataset.
        other: Key and dataset.
        report: Takes the problem or note.
    """
    classes, others = classes_of(first[1]), classes_of(other[1])
    if classes == others:
        return
    text = (
        f'{{}}: {other[0]} has the classes {", ".join(map(str, others[:5]))}, and '
        f'{first[0]} has {", ".join(map(str, classes[:5]))}'
    )
    # Without metainfo.classes, those of mmpretrain are the folders that are there.
    by_folder = any(hasattr(each[1], 'folder_to_idx') for each in (first, other))
    same = sorted(map(str, classes)) == sorted(map(str, others))
    if same or (by_folder and renumbered(classes, others)):
        report.problem(text.format('The same classes have other labels'))
    elif len(classes) == len(others):
        report.note(text.format('The same labels have other names'))
