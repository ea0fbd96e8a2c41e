# SPDX-License-Identifier: Apache-2.0
"""Builds the datasets of a job, and checks them against their files and heads."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mmengine.dataset import Compose
from mmengine.fileio import load
from mmengine.registry import DATASETS

from mmadaptor.datasets.checked_pipeline import IGNORED, CheckedPipeline, is_remote
from mmadaptor.datasets.image_files import kind_problem
from mmadaptor.errors import InputError, described

from .coco import check_categories, note_lost, recorded
from .objects import (
    POINTLESS,
    box_problem,
    labels_in,
    loses_polygons,
    mask_problem,
    object_loader,
    trained_objects,
)
from .report import Report
from .samples import classes_of, load_some, note_absent

HOW_TO_GET = dict(
    CocoDataset='COCO 2017 (train2017, val2017, annotations): '
    'https://cocodataset.org/#download',
    ImageNet='ImageNet-1K (ILSVRC 2012): https://image-net.org/download',
    CUB='CUB-200-2011: https://www.vision.caltech.edu/datasets/cub_200_2011',
    ADE20KDataset='ADE20K (ADEChallengeData2016): http://sceneparsing.csail.mit.edu',
)
MADE = {
    f'data/{name}/': f'Make it: python tools/make_data.py {name}'
    for name in ('fashion', 'trees')
}
MASKS = ('seg', 'seg_map_path')  # names of their folder in data_prefix


def build_lazily(cfg: dict) -> Any:
    """Build a dataset; its annotations are read later, if its class can do that.

    Raises:
        InputError: The class of the dataset has no such argument.
    """
    try:
        return DATASETS.build(_lazy(cfg))
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown and unknown[1] == 'lazy_init':
            return DATASETS.build(cfg)
        if unknown and unknown[1] in cfg:
            raise InputError(
                f'{cfg["type"]} has no argument `{unknown[1]}`: {error}. If a base '
                'config sets it for another dataset, add _delete_=True to yours'
            ) from error
        raise


def _lazy(cfg: Any) -> Any:
    """Return the config with `lazy_init` in each dataset of it."""
    if isinstance(cfg, list | tuple):
        return [_lazy(part) for part in cfg]
    if not isinstance(cfg, dict) or 'type' not in cfg:
        return cfg
    lazy = type(cfg)(cfg)
    lazy.setdefault('lazy_init', True)
    for name in ('dataset', 'datasets'):  # of wrappers
        if name in lazy:
            lazy[name] = _lazy(lazy[name])
    return lazy


def leaves(dataset: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the key and the dataset of each that reads files, inside wrappers."""
    inner = getattr(dataset, 'datasets', None)
    if isinstance(inner, list | tuple):
        for i, child in enumerate(inner):
            yield from leaves(child, f'{key}.datasets.{i}')
    elif hasattr(dataset, 'dataset'):
        yield from leaves(dataset.dataset, f'{key}.dataset')
    else:
        yield key, dataset


def check_paths(key: str, dataset: Any, report: Report) -> None:
    """Report files and folders of a lazily built dataset that do not exist."""
    if getattr(dataset, 'download', False) or _remote(dataset):
        return
    before = len(report.missing)
    ann_file = getattr(dataset, 'ann_file', None)
    if isinstance(ann_file, str) and ann_file and '://' not in ann_file:
        report.require(f'{key}.ann_file', ann_file)
    prefixes = getattr(dataset, 'data_prefix', None)
    for name, folder in prefixes.items() if isinstance(prefixes, dict) else ():
        unread = name in MASKS and not _reads_masks(dataset)
        if isinstance(folder, str) and folder and '://' not in folder and not unread:
            there = report.require(f'{key}.data_prefix', folder)
            if there and not _may_have_files(folder):
                report.problem(f'{folder} is not a folder with files', key)
    kind = type(dataset)
    published = list(getattr(kind, 'METAINFO', {}).get('classes') or ())
    if (
        len(report.missing) > before
        and kind.__name__ in HOW_TO_GET
        and classes_of(dataset) == published
    ):
        report.hint(f'Get {HOW_TO_GET[kind.__name__]}.')
    for folder, how in MADE.items():
        if any(path.startswith(folder) for path in report.missing):
            report.hint(how)


def _reads_masks(dataset: Any) -> bool:
    """Return whether a pipeline reads semantic masks; a test may do without."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
    return transforms is None or any(
        getattr(transform, 'with_seg', False) for transform in transforms
    )


def _may_have_files(path: str) -> bool:
    """Return whether a path is a folder that is not empty, or cannot be listed."""
    try:
        return os.path.isdir(path) and any(os.scandir(path))
    except PermissionError:
        return True


def _remote(dataset: Any) -> bool:
    """Return whether the dataset or its pipeline reads from another backend."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any(map(is_remote, (dataset, *transforms)))


def initialize(
    key: str, dataset: Any, report: Report, ignored: Collection[int] = (IGNORED,)
) -> list[dict]:
    """Read the annotations of a dataset, and make its pipeline name its files.

    Args:
        key: Key of the dataset in the config.
        dataset: The dataset.
        report: Where problems go.
        ignored: The labels of semantic masks that stand for no class.

    Returns:
        The content of each file that pycocotools read.
    """
    what = getattr(dataset, 'ann_file', None) or type(dataset).__name__
    with (
        report.collect(key, what),
        _entries_named(dataset, what),
        recorded(dataset) as contents,
    ):
        try:
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
            size = len(dataset)
            if not contents and hasattr(dataset, 'COCOAPI'):  # its wrapper read it
                contents.append(
                    load(dataset.ann_file, backend_args=dataset.backend_args)
                )
        except ValueError as error:  # numpy's, when mmengine serializes no sample
            if 'need at least one array' not in str(error):
                raise
            size = 0
        if size == 0:
            text = f'{what}: no sample is left. Check filter_cfg, indices, suffixes '
            report.problem(text + 'and the folders of the dataset', key)
        if type(getattr(dataset, 'pipeline', None)) is Compose:
            semantic = hasattr(dataset, 'reduce_zero_label')
            dataset.pipeline = CheckedPipeline(
                dataset.pipeline,
                len(classes_of(dataset)) if semantic else None,
                ignored,
            )
    return contents


@contextmanager
def _entries_named(dataset: Any, what: str) -> Iterator[None]:
    """Name the entry of an annotation file that cannot be parsed."""
    parse = getattr(dataset, 'parse_data_info', None)

    def parse_named(info: Any) -> Any:
        try:
            return parse(info)
        except OSError:
            raise
        except Exception as error:
            if not isinstance(info, dict):
                raise
            image = info.get('raw_img_info', info)
            name = image.get('xml_path') or f'{what}: {image.get("file_name")}'
            raise InputError(f'{name} cannot be read: {described(error)}') from error

    if parse is not None:
        dataset.parse_data_info = parse_named  # shadows the method of the class
    try:
        yield
    finally:
        vars(dataset).pop('parse_data_info', None)


def check_content(
    key: str, dataset: Any, contents: list[dict], report: Report
) -> set[str]:
    """Check what an initialized dataset lists, and load some of its samples.

    Returns the paths of its images.
    """
    before, paths, unread = report.told, {}, set()
    what = getattr(dataset, 'ann_file', '') or key
    with report.collect(key, what):
        if not getattr(dataset, '_fully_initialized', True):
            return set()  # `initialize` has said why
        for content in contents:
            _check_coco(key, dataset, content, report)
        if hasattr(dataset, 'get_data_info'):
            paths = _check_samples(key, dataset, contents, report)
            _check_folders(key, dataset, report)
    can_load = report.told == before  # pycocotools may end the process
    with report.collect(key, what):
        unread = _check_files(key, dataset, paths, report)
    if can_load and isinstance(getattr(dataset, 'pipeline', None), CheckedPipeline):
        with report.collect(key, type(dataset).__name__):
            load_some(key, dataset, unread, report)
    return set(paths.get('img_path', ()))


def _check_coco(key: str, dataset: Any, content: dict, report: Report) -> None:
    """Check the categories of a COCO file, and what refers to them."""
    classes = dataset.metainfo.get('classes') or ()
    ids, trains = getattr(dataset, 'cat_ids', ()), not dataset.test_mode
    where, path = f'{key}.ann_file', dataset.ann_file
    check_categories(where, path, classes, ids, content, trains, report)
    note_lost(path, content, report)


def _check_samples(
    key: str, dataset: Any, contents: list[dict], report: Report
) -> dict[str, list[str]]:
    """Check the objects and labels that a dataset lists; return the paths of files."""
    paths, labels, odd, masks = defaultdict(list), [], defaultdict(list), []
    loader, where = object_loader(dataset), f'{key}.ann_file'
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        for name in ('img_path', 'seg_map_path'):
            if isinstance(info.get(name), str) and '://' not in info[name]:
                paths[name].append(info[name])
        labels += labels_in(info)
        image, size = info.get('img_path'), (info.get('height'), info.get('width'))
        for thing in trained_objects(info) if loader else ():
            if problem := box_problem(thing.get('bbox', ()), *size):
                odd[problem].append(f'{image}, x1, y1, x2, y2 {list(thing["bbox"])}')
        masked = loader and loader.with_mask and info.get('instances')
        for thing in masked or ():
            if problem := mask_problem(thing.get('mask'), *size):
                masks.append(f'{image}, box {thing.get("bbox")!s:.60}: {problem}')
            elif loses_polygons(thing['mask']) and not thing.get('ignore_flag'):
                odd[POINTLESS].append(str(image))
    for problem, things in odd.items():
        report.note(f'{key}: {len(things)} objects {problem} (first: {things[0]})')
    if masks:
        text = f'{len(masks)} objects cannot be used (first: {"; ".join(masks[:3])})'
        report.problem(text, where)
    if loader and not labels and not getattr(dataset, 'test_mode', False):
        _tell_nothing_left(key, dataset, contents, report)
    note_absent(key, dataset, set(labels), 'object' if loader else 'sample', report)
    classes = len(classes_of(dataset))
    wrong = [label for label in labels if not 0 <= label < classes]
    if wrong and classes:
        report.problem(
            f'{len(wrong)} of {len(labels)} labels are outside of the {classes} '
            f'classes (first: {wrong[0]})',
            where if dataset.ann_file else key,
        )
    return paths


def _tell_nothing_left(
    key: str, dataset: Any, contents: list[dict], report: Report
) -> None:
    """Report that mmdet leaves out all objects; a file of background has none."""
    ids = getattr(dataset, 'cat_ids', ())
    annotations = [a for content in contents for a in content.get('annotations', ())]
    count = sum(a.get('category_id') in ids for a in annotations)
    if not count:
        report.note(f'{key} has no object of metainfo.classes to train with')
        return
    report.problem(
        f'{dataset.ann_file}: mmdet trains with none of the {count} objects of '
        'metainfo.classes: it leaves out those with iscrowd or ignore, without an '
        'image, outside of their image, with an area of 0 or with a side below 1 pixel '
        '(bbox and area are in pixels)',
        f'{key}.ann_file',
    )


def _check_files(key: str, dataset: Any, paths: dict, report: Report) -> set[str]:
    """Check that the files that a dataset lists are there; return the others."""
    all_lost = set()
    for name, found in paths.items():
        if _remote(dataset) or (name in MASKS and not _reads_masks(dataset)):
            continue
        for reason, lost in unreadable_files(found).items():
            text = f'{len(lost)} of {len(found)} files {reason} (first: '
            report.problem(f'{text}{", ".join(lost[:3])})', f'{key} as {name}')
            all_lost.update(lost)
    _note_left_out(key, dataset, set(paths.get('seg_map_path', ())), report)
    return all_lost


def unreadable_files(paths: list[str]) -> dict[str, list[str]]:
    """Return the paths that are no regular files; each folder is listed once."""
    there, unread = {}, defaultdict(list)
    for folder in {os.path.dirname(path) for path in paths}:
        there[folder] = set()
        # A folder may be open to those who know the names in it.
        with suppress(OSError), os.scandir(folder) as entries:
            there[folder] = {
                entry.name
                for entry in entries
                if entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
            }
    for path in paths:
        listed = os.path.basename(path) in there[os.path.dirname(path)]
        # A file system may know a file by several names.
        if not listed and not os.path.isfile(path):
            reason = 'are not regular files' if kind_problem(path) else 'do not exist'
            unread[reason].append(path)
    return unread


def _note_left_out(key: str, dataset: Any, masks: set[str], report: Report) -> None:
    """Note masks without an image: mmseg lists the images only."""
    suffix = getattr(dataset, 'seg_map_suffix', None)
    part = getattr(dataset, 'ann_file', '') or getattr(dataset, '_indices', None)
    folders = {os.path.dirname(mask) for mask in masks if suffix and not part}
    extra = [
        name
        for folder in filter(os.path.isdir, folders)
        for name in sorted(os.listdir(folder))
        if name.endswith(suffix) and os.path.join(folder, name) not in masks
    ]
    if extra:
        report.note(
            f'{key}: {len(extra)} masks have no image and are left out: '
            f'{", ".join(extra[:3])}'
        )


def _check_folders(key: str, dataset: Any, report: Report) -> None:
    """Check folders that are classes: mmpretrain numbers them by name."""
    folders, classes = list(getattr(dataset, 'folder_to_idx', ())), classes_of(dataset)
    if folders != classes and sorted(folders) == sorted(classes):
        report.problem(
            'The class folders are numbered in alphabetical order '
            f'({", ".join(folders[:5])}), and metainfo.classes has another order '
            f'({", ".join(classes[:5])})',
            f'{key}.data_prefix',
        )
