# SPDX-License-Identifier: Apache-2.0
"""Checks of the annotations of a COCO file: what mmdet does with each, and says not."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from .objects import finite
from .report import Report

OUTSIDE = 1  # pixels by which a box may reach outside of its image
# What is said of annotations that are not as a user may believe; `area` compares with
# the box, and masks of thin objects may exceed theirs by rounding.
NOTES = dict(
    ignore='have `ignore`: mmdet trains as if they were background, and pycocotools '
    'evaluates them as objects',
    left_out='are outside of their image, or have an area of 0 or a side below 1 '
    'pixel: mmdet does not train with them, and pycocotools evaluates them as objects',
    outside='have boxes that reach outside of their image; a bbox is x, y, width, '
    'height in pixels, not x1, y1, x2, y2',
    area='have an area that exceeds their box; AP_s, AP_m and AP_l go by the area',
    twice='are there twice, with the same image, category and box',
)


def check_annotations(
    where: str,
    path: str,
    content: dict,
    cat_ids: Sequence,
    trains: bool,
    report: Report,
) -> None:
    """Check boxes, areas and flags.

    Args:
        where: The key of the config that names the file.
        path: The annotation file.
        content: The content of the file.
        cat_ids: The ids of the categories that are used.
        trains: Whether mmdet trains with the objects.
        report: Takes the problems and notes.
    """
    annotations = content.get('annotations', ())
    if annotations and 'segments_info' in annotations[0]:  # panoptic, of no boxes
        return
    _check_numbers(where, path, annotations, report)
    sizes = {image['id']: image for image in content.get('images', ())}
    wanted, found, usable = set(cat_ids), defaultdict(list), 0
    boxes: set[tuple] = set()
    for a in annotations:
        size = sizes.get(a.get('image_id'))
        if a.get('category_id') not in wanted or size is None or not _is_whole(a):
            continue
        kind = kind_of(a, size)
        found[kind].append(a)
        usable += kind not in ('ignore', 'left_out', 'crowd')
        box = (a['image_id'], a['category_id'], *a['bbox'])
        found['twice'] += [a] * (box in boxes)
        boxes.add(box)
    if trains and wanted and not usable:
        _tell_nothing_left(where, path, found, report)
    for kind, text in NOTES.items():
        if found[kind]:
            first = found[kind][0]
            report.note(
                f'{path}: {len(found[kind])} annotations {text} (first: annotation '
                f'{first.get("id")}, bbox {first["bbox"]}, area {first["area"]})'
            )


def kind_of(annotation: dict, size: dict) -> str:
    """Return what mmdet does with an annotation, or what is odd about it.

    Source: `CocoDataset.parse_data_info` of mmdet.
    """
    x, y, w, h = annotation['bbox']
    width, height, area = size['width'], size['height'], annotation['area']
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    if annotation.get('ignore', False):
        return 'ignore'
    if not inside or area <= 0 or w < 1 or h < 1:
        return 'left_out'
    if annotation.get('iscrowd', False):
        return 'crowd'
    if min(x, y) < -OUTSIDE or max(x + w - width, y + h - height) > OUTSIDE:
        return 'outside'
    return 'area' if area > 1.1 * w * h + 1 else 'object'


def _is_whole(annotation: dict) -> bool:
    """Return whether an annotation has a box and an area; others are told elsewhere."""
    box, area = annotation.get('bbox'), annotation.get('area')
    return isinstance(box, list) and len(box) == 4 and finite((*box, area))


def _tell_nothing_left(where: str, path: str, found: dict, report: Report) -> None:
    count = sum(len(found[kind]) for kind in ('ignore', 'left_out', 'crowd'))
    if not count:
        report.note(f'{path} has no object of metainfo.classes to train with')
        return
    report.problem(
        f'{path}: mmdet trains with none of the {count} objects of metainfo.classes: '
        f'{len(found["crowd"])} have iscrowd, {len(found["ignore"])} have ignore, and '
        f'{len(found["left_out"])} are outside of their image, or have an area of 0 '
        'or a side below 1 pixel (bbox and area are in pixels)',
        where,
    )


def _check_numbers(where: str, path: str, annotations: list, report: Report) -> None:
    """Report what is no number: mmdet leaves it out, trains with it, or takes it for 1.

    A text is true, so that `iscrowd='0'` makes a crowd of an object.
    """
    wrong = [
        a
        for a in annotations
        if not a.get('ignore', False)
        and not finite((*(a.get('bbox') or ()), a.get('area', 0)))
    ]
    if wrong:
        report.problem(
            f'{path} has {len(wrong)} annotations whose bbox or area is not made of '
            f'finite numbers (first: annotation {wrong[0].get("id")}, bbox '
            f'{wrong[0].get("bbox")!s:.60}, area {wrong[0].get("area")!s:.20})',
            where,
        )
    for flag in ('iscrowd', 'ignore'):
        wrong = [a for a in annotations if not finite([a.get(flag) or 0])]
        if wrong:
            report.problem(
                f'{path} has {len(wrong)} annotations whose {flag} is neither 0 nor 1 '
                f'(first: annotation {wrong[0].get("id")}, {flag} {wrong[0][flag]!r})',
                where,
            )


def some(names: Iterable[Any], count: int = 5) -> str:
    """Return the first names as text."""
    names = list(names)
    return ', '.join(map(str, names[:count])) + ', ...' * (len(names) > count)
