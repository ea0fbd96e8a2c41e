# SPDX-License-Identifier: Apache-2.0
"""Checks of what pycocotools read from an annotation file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .objects import finite
from .report import Report

SHOWN = 5


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
    _check_references(where, path, content, report)
    _check_numbers(where, path, content, report)
    classes = list(dataset.metainfo.get('classes') or ())
    names = {c['id']: c['name'] for c in content.get('categories', ())}
    unknown = [name for name in classes if name not in names.values()]
    if unknown:
        report.problem(
            f'{path} has no category {_some(unknown)} ({len(unknown)} of the '
            f'{len(classes)} in metainfo.classes are missing); its categories '
            f'are {_some(names.values(), 10)}',
            where,
        )
        return
    extra = [name for name in names.values() if name not in classes]
    if extra:
        text = 'categories are not in metainfo.classes; their objects are left out'
        report.note(f'{path}: {len(extra)} {text}: {_some(extra)}')
    labels = [names.get(i) for i in getattr(dataset, 'cat_ids', ())]
    if labels and labels != classes:
        report.problem(
            f'{path} lists its categories in another order than metainfo.classes, '
            f'and mmdet numbers them as the file does: {_some(labels)}. List '
            'metainfo.classes in that order, and the same in every annotation file '
            'of the config',
            where,
        )


def _check_references(where: str, path: str, content: dict, report: Report) -> None:
    annotations = content.get('annotations', ())
    for key, part in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id'] for entry in content.get(part, ())}
        # Panoptic annotations have their categories in `segments_info`.
        lost = [a for a in annotations if key in a and a[key] not in known]
        if lost:
            report.problem(
                f'{path} has {len(lost)} annotations whose {key} is not in the '
                f'file (first: annotation {lost[0].get("id")}, {key} '
                f'{lost[0].get(key)})',
                where,
            )
    ids = [a['id'] for a in annotations if 'id' in a]
    if len(set(ids)) < len(ids):
        report.problem(f'{path} has several annotations of one id', where)


def _check_numbers(where: str, path: str, content: dict, report: Report) -> None:
    """Report NaN and infinity, which mmdet leaves out or trains with."""
    wrong = [
        annotation
        for annotation in content.get('annotations', ())
        if not annotation.get('ignore', False)
        and not finite((*(annotation.get('bbox') or ()), annotation.get('area', 0)))
    ]
    if wrong:
        report.problem(
            f'{path} has {len(wrong)} annotations whose bbox or area is not made of '
            f'finite numbers (first: annotation {wrong[0].get("id")}, bbox '
            f'{wrong[0].get("bbox")!s:.60}, area {wrong[0].get("area")!s:.20})',
            where,
        )


def _some(names: Any, count: int = SHOWN) -> str:
    names = list(names)
    return ', '.join(map(str, names[:count])) + ', ...' * (len(names) > count)
