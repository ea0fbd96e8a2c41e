# SPDX-License-Identifier: Apache-2.0
"""Checks of the images and categories of an annotation file, as mmdet reads them.

mmdet numbers the classes by the order of `categories`, not of `metainfo.classes`:
the n-th category that has a name of `metainfo.classes` is label n.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .coco_annotations import check_annotations, some
from .objects import finite
from .report import Report


@contextmanager
def recorded(dataset: Any) -> Iterator[list[dict]]:
    """Record the annotation files that a dataset reads by pycocotools."""
    contents: list[dict] = []
    api = getattr(dataset, 'COCOAPI', None)
    if api is None:
        yield contents
        return

    def read(*args: Any, **kwargs: Any) -> Any:
        coco = api(*args, **kwargs)
        contents.append(coco.dataset)
        return coco

    dataset.COCOAPI = read  # shadows the attribute of the class
    try:
        yield contents
    finally:
        del dataset.COCOAPI


def check_coco(key: str, dataset: Any, content: dict, report: Report) -> None:
    """Check what mmdet and pycocotools leave out or misread silently."""
    where, path = f'{key}.ann_file', dataset.ann_file
    trains = not getattr(dataset, 'test_mode', False)
    cat_ids = list(getattr(dataset, 'cat_ids', ()))
    check_references(where, path, content, report)
    check_annotations(where, path, content, cat_ids, trains, report)
    if getattr(dataset, '_fully_initialized', True):  # otherwise it is said why not
        classes = dataset.metainfo.get('classes') or ()
        check_categories(where, path, classes, cat_ids, content, trains, report)


def check_categories(
    where: str,
    path: str,
    classes: str | Sequence[str],
    cat_ids: Sequence,
    content: dict,
    may_lack: bool,
    report: Report,
) -> None:
    """Check that label n is class n.

    Args:
        where: The key of the config that names the file.
        path: The annotation file.
        classes: `metainfo.classes`.
        cat_ids: The ids of the categories in the order of the labels.
        content: The content of the file.
        may_lack: Whether the last classes may have no category. An evaluation ends
            as soon as such a class is predicted.
        report: Takes the problems.
    """
    categories = [
        (c['id'], c['name'] if isinstance(c['name'], Hashable) else str(c['name']))
        for c in content.get('categories', ())
    ]
    names = dict(categories)
    problem = _doubled(categories, classes)
    if problem:
        report.problem(f'{path}: {problem}', where)
        return
    labels = [names.get(i) for i in cat_ids]
    unknown = [name for name in classes if name not in names.values()]
    extra = [name for name in names.values() if name not in classes]
    is_start = labels and labels == list(classes[: len(labels)])
    if unknown and may_lack and is_start and not extra:
        report.note(f'{path} has no category {some(unknown)}; no object is of it')
    elif unknown:
        report.problem(
            f'{path} has no category {some(unknown)} ({len(unknown)} of the '
            f'{len(classes)} in metainfo.classes are missing); its categories '
            f'are {some(names.values(), 10)}. Every class must be in `categories`: '
            'mmdet numbers the classes by that list',
            where,
        )
        return
    elif labels and labels != list(classes):
        report.problem(
            f'{path} lists its categories in another order than metainfo.classes, '
            f'and mmdet numbers them as the file does: {some(labels)}. List '
            'metainfo.classes in that order, and the same in every annotation file '
            'of the config',
            where,
        )
    if extra:
        text = 'categories are not in metainfo.classes; their objects are left out'
        report.note(f'{path}: {len(extra)} {text}: {some(extra)}')


def _doubled(categories: list[tuple], classes: str | Sequence[str]) -> str:
    """Return what makes mmdet count a class twice, or a text by its letters."""
    if isinstance(classes, str):
        return (
            f'metainfo.classes is the text {classes!r}, of which each part is a name '
            f'to pycocotools; a tuple of one name is ({classes!r},)'
        )
    for i in _several(i for i, _ in categories):
        names = some(name for other, name in categories if other == i)
        return f'several categories have the id {i!r} ({names}), and the last one wins'
    for name in _several(name for _, name in categories):
        if name in classes:
            ids = some(i for i, other in categories if other == name)
            return (
                f'several categories have the name {name!r} (ids {ids}), and mmdet '
                'counts each as a class of its own'
            )
    for name in _several(classes):
        return f'metainfo.classes names {name!r} more than once'
    return ''


def check_references(where: str, path: str, content: dict, report: Report) -> None:
    """Check images, ids, and what refers to them."""
    parts = {
        part: [entry for entry in content.get(part, ()) if 'id' in entry]
        for part in ('images', 'categories', 'annotations')
    }
    names = {(image['id'], str(image.get('file_name'))) for image in parts['images']}
    ids = {part: [entry['id'] for entry in entries] for part, entries in parts.items()}
    ids['images'] = [i for i, _ in names]  # twice the same image is read right
    for part in ('images', 'annotations'):  # categories are told with their names
        for i in _several(ids[part]):
            report.problem(f'{path} has several {part} of one id ({i!r})', where)
            break
    for part in ('images', 'categories'):
        if not _told_apart(ids[part]):
            report.problem(
                f'{path}: the ids of its {part} are of several types or too large; '
                'pycocotools sorts them by numpy, which makes others of them',
                where,
            )
    several = list(_several(name for _, name in names))
    if several:
        report.note(
            f'{path} lists {len(several)} images more than once, each time with other '
            f'annotations: {some(several, 3)}'
        )
    _check_links(where, path, content, report)
    _check_sizes(where, path, parts['images'], report)


def _check_sizes(where: str, path: str, images: list[dict], report: Report) -> None:
    sizes = [(image.get('height'), image.get('width')) for image in images]
    wrong = [i for i, size in enumerate(sizes) if not finite(size) or min(size) <= 0]
    if wrong:
        report.problem(
            f'{path}: {len(wrong)} images have no size of two positive numbers (first: '
            f'id {images[wrong[0]]["id"]}, height and width {sizes[wrong[0]]})',
            where,
        )


def _told_apart(ids: list) -> bool:
    try:
        return set(np.unique(ids).tolist()) == set(ids)
    except TypeError:  # null and a number
        return False


def _check_links(where: str, path: str, content: dict, report: Report) -> None:
    annotations = content.get('annotations', ())
    for key, part in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id'] for entry in content.get(part, ())}
        # Panoptic annotations have their categories in `segments_info`.
        lost = [a for a in annotations if key in a and a[key] not in known]
        if not lost:
            continue
        text = (
            f'{path} has {len(lost)} annotations whose {key} is not in the file '
            f'(first: annotation {lost[0].get("id")}, {key} {lost[0].get(key)!r})'
        )
        texts = set(map(str, known))
        if any(str(a[key]) in texts for a in lost):
            text += f'; the same {key} is there as another type'
        elif part == 'images' and len(lost) < len(annotations):
            report.note(f'{text}; they are left out')
            continue
        report.problem(text, where)


def _several(values: Iterable) -> Iterator[Any]:
    """Yield each value that occurs more than once."""
    counts = defaultdict(int)
    for value in values:
        counts[value] += 1
        if counts[value] == 2:
            yield value
