# SPDX-License-Identifier: Apache-2.0
"""Are the files there that a config's datasets and evaluators name?"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from ..cfg_options import argument_names, find_class
from .class_folders import check_class_folders
from .coco_file import missing_files, read_coco
from .masks import check_masks
from .report import Report

HOW_TO_GET = {
    'CocoDataset': 'COCO 2017 (train2017, val2017, annotations): '
    'https://cocodataset.org/#download',
    'ImageNet': 'ImageNet-1K (ILSVRC 2012): https://image-net.org/download',
    'CUB': 'CUB-200-2011: https://www.vision.caltech.edu/datasets/cub_200_2011',
    'ADE20KDataset': 'ADE20K (ADEChallengeData2016): http://sceneparsing.csail.mit.edu',
}


def check_data(cfg: Config, split: str, report: Report) -> None:
    """Checks the files of one data loader and of its evaluator.

    Args:
        cfg: The config.
        split: `'train'`, `'val'` or `'test'`.
        report: Takes what is missing or broken.
    """
    scope = cfg.get('default_scope')
    loader = cfg.get(f'{split}_dataloader')
    if isinstance(loader, dict):
        _check_numbers(f'{split}_dataloader', loader, report)
        for key, node in leaves(loader.get('dataset'), f'{split}_dataloader.dataset'):
            _check_dataset(
                key, node, find_class(node['type'], scope), cfg.get('model'), report
            )
    evaluators = cfg.get(f'{split}_evaluator')
    listed = isinstance(evaluators, list | tuple)
    for i, node in enumerate(evaluators if listed else [evaluators]):
        path = node.get('ann_file') if isinstance(node, dict) else None
        if isinstance(path, str) and path and not _is_remote(node, path):
            index = f'.{i}' if listed else ''
            _check_annotations(f'{split}_evaluator{index}.ann_file', path, report)


def _check_numbers(key: str, loader: Mapping, report: Report) -> None:
    for name, least in (('batch_size', 1), ('num_workers', 0)):
        value = loader.get(name, least)
        if type(value) is not int or value < least:
            report.problem(
                f'{key}.{name} must be a whole number of {least} or more, got {value!r}'
            )


def leaves(node: Any, key: str) -> Iterator[tuple[str, Mapping]]:
    """The datasets inside of wrappers such as RepeatDataset.

    Args:
        node: A dataset's config.
        key: Its place in the whole config.

    Yields:
        The place and the config of each dataset that reads files.
    """
    if not isinstance(node, dict) or 'type' not in node:
        return
    inner = node.get('datasets', ())
    if isinstance(node.get('dataset'), dict):
        yield from leaves(node['dataset'], f'{key}.dataset')
    elif isinstance(inner, list | tuple) and inner:
        for i, child in enumerate(inner):
            yield from leaves(child, f'{key}.datasets.{i}')
    else:
        yield key, node


def _is_remote(node: Mapping, path: str) -> bool:
    backend = (node.get('backend_args') or {}).get('backend', 'local')
    return backend != 'local' or '://' in path


def _check_dataset(
    key: str, node: Mapping, cls: Any, model: Any, report: Report
) -> None:
    root = node.get('data_root') or ''
    if cls is None or _is_remote(node, root) or _downloads(node, cls):
        return
    missing_before = len(report.missing)
    ann_file = node.get('ann_file') or ''
    if ann_file:
        ann_file = os.path.join(root, ann_file)
        _check_annotations(f'{key}.ann_file', ann_file, report)
    for name, folder in _folders(node, cls).items():
        report.require_folder(f'{key}.{name}', os.path.join(root, folder))
    if len(report.missing) > missing_before:
        report.hint(_how_to_get(node, cls))
        return
    classes = class_names(node, cls)
    if ann_file and _reads_as(cls, 'CocoDataset', 'parse_data_info'):
        _check_coco(key, node, ann_file, classes, report)
    count = len(classes)
    if _reads_as(cls, 'BaseSegDataset'):
        check_masks(key, node, cls, classes, report)
    elif _reads_as(cls, 'CustomDataset'):
        count = check_class_folders(key, node, cls, classes, report) or count
    if count:
        _check_heads(model, 'model', count, key, report)


def _downloads(node: Mapping, cls: Any) -> bool:
    return 'download' in argument_names(cls) and node.get('download', True)


def _folders(node: Mapping, cls: Any) -> dict[str, str]:
    """The folders of a dataset, relative to its root, by key."""
    prefix = node.get('data_prefix') or {}
    if isinstance(prefix, str):
        return {'data_prefix': prefix}
    folders = {f'data_prefix.{k}': v for k, v in prefix.items() if v}
    # Others of mmpretrain have lists of what is in a split.
    if (
        not folders
        and node.get('split')
        and 'split' in argument_names(cls)
        and _reads_as(cls, 'CustomDataset')
    ):
        return {'data_root': node['split']}
    if not folders and node.get('data_root'):
        return {'data_root': ''}
    return folders


def _check_annotations(key: str, path: str, report: Report) -> None:
    if not report.require(key, path) or not path.endswith('.json'):
        return
    summary = read_coco(path)
    # Whether its parts have to be COCO's is for the dataset to say.
    if not summary.readable:
        report.broken(key, path, summary.problems[0])


def _reads_as(cls: Any, name: str, *others: str) -> bool:
    """Whether a dataset reads its files by the methods of a toolbox's class."""
    methods = (getattr(cls, m, None) for m in ('load_data_list', *others))
    return all(
        getattr(method, '__qualname__', '').startswith(f'{name}.') for method in methods
    )


def _check_coco(
    key: str, node: Mapping, path: str, classes: tuple[str, ...], report: Report
) -> None:
    summary = read_coco(path)
    if not summary.readable:
        return
    for problem in summary.problems:
        report.broken(f'{key}.ann_file', path, problem)
    unknown = [name for name in classes if name not in summary.categories]
    if unknown and not summary.problems:
        report.broken(
            f'{key}.ann_file',
            path,
            f'has no category {", ".join(map(repr, unknown[:5]))} '
            f'({len(unknown)} of the {len(classes)} in metainfo.classes are '
            f'missing); its categories are {", ".join(summary.categories[:10])}',
        )
    extra = [name for name in summary.categories if name not in classes]
    if extra and not unknown:
        report.note(
            f'{path}: {len(extra)} categories are not in '
            f'metainfo.classes, so their objects are left out: '
            f'{", ".join(extra[:5])}'
        )
    prefix = (node.get('data_prefix') or {}).get('img')
    # A subset may come without the other images.
    if prefix is None or node.get('indices') is not None:
        return
    folder = os.path.join(node.get('data_root') or '', prefix)
    missing = missing_files(folder, summary.file_names)
    if missing:
        report.broken(
            f'{key}.data_prefix.img',
            folder,
            f'lacks {len(missing)} of the {len(summary.file_names)} images of '
            f'{path} (first: {", ".join(missing[:3])})',
        )


def class_names(node: Mapping, cls: Any) -> tuple[str, ...]:
    """The names of a dataset's classes.

    Args:
        node: Its config.
        cls: Its class.

    Returns:
        Those of its config, else those of its class; none if neither has any.
    """
    own = (node.get('metainfo') or {}).get('classes')
    if own is None:
        own = getattr(cls, 'METAINFO', {}).get('classes', ())
    return () if isinstance(own, str) else tuple(own or ())


def _check_heads(
    node: Any, key: str, expected: int, dataset: str, report: Report
) -> None:
    """Compares each head's num_classes with the dataset's classes."""
    if isinstance(node, list | tuple):
        for i, child in enumerate(node):
            _check_heads(child, f'{key}.{i}', expected, dataset, report)
    if not isinstance(node, dict):
        return
    got = node.get('num_classes')
    if isinstance(got, int) and _is_class_head(key) and got != expected:
        report.problem(
            f'{key}.num_classes is {got}, but {dataset} has {expected} classes'
        )
    for name, child in node.items():
        _check_heads(child, f'{key}.{name}', expected, dataset, report)


def _is_class_head(key: str) -> bool:
    names = [name for name in key.split('.') if not name.isdigit()]
    return names[-1].endswith('head') and names[-1] not in ('rpn_head', 'semantic_head')


def _how_to_get(node: Mapping, cls: Any) -> str:
    its_own = (node.get('metainfo') or {}).get('classes') is None
    if its_own and cls.__name__ in HOW_TO_GET:
        return f'Get {HOW_TO_GET[cls.__name__]}.'
    return ''
