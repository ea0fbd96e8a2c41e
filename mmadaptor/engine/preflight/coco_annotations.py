# SPDX-License-Identifier: Apache-2.0
"""Checks of the annotations of a COCO file: what mmdet does with each, and says not."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from .objects import finite
from .report import Report

SAMPLED = 10_000  # so many boxes of a file are compared with their polygons
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
    apart='have polygons and a bbox of which less than half is common; both are in '
    'pixels, and a bbox is x, y, width, height',
    corners='have an area that fits x1, y1, x2, y2, and not the x, y, width, height '
    'that a bbox is',
    odd_crowd='have an iscrowd that is neither 0 nor 1; mmdet takes it for 1',
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
    sizes = {
        image['id']: image
        for image in content.get('images', ())
        if finite((image.get('height'), image.get('width')))  # others are told
    }
    wanted, found, usable = set(cat_ids), defaultdict(list), 0
    boxes: set[tuple] = set()
    step = max(1, len(annotations) // SAMPLED)
    for i, a in enumerate(annotations):
        size = sizes.get(a.get('image_id'))
        if a.get('category_id') not in wanted or size is None or not _is_whole(a):
            continue
        kind = kind_of(a, size)
        found[kind].append(a)
        if kind not in ('ignore', 'left_out', 'crowd'):
            usable += 1
            found['corners'] += [a] * _fits_corners(a)
            found['apart'] += [a] * (i % step == 0 and _is_apart(a))
        box = (a['image_id'], a['category_id'], *a['bbox'])
        found['twice'] += [a] * (box in boxes)
        found['odd_crowd'] += [a] * (kind == 'crowd' and a['iscrowd'] != 1)
        boxes.add(box)
    if trains and wanted and not usable:
        _tell_nothing_left(where, path, found, report)
    if 2 * len(found['corners']) <= usable:  # by chance
        del found['corners']
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


def _fits_corners(annotation: dict) -> bool:
    """Return whether the area is that of a box of two corners, within a hundredth."""
    (x1, y1, x2, y2), area = annotation['bbox'], annotation['area']
    corners = (x2 - x1) * (y2 - y1) if x2 > x1 and y2 > y1 else 0
    return abs(corners - area) < 0.01 * area < abs(x2 * y2 - area)


def _is_apart(annotation: dict) -> bool:
    """Return whether a box has an IoU below 0.5 with the box around its polygons."""
    mask = annotation.get('segmentation')
    parts = mask if isinstance(mask, list) else []
    parts = [part for part in parts if isinstance(part, list) and len(part) >= 6]
    if not parts or not finite(chain(*parts)):
        return False
    x, y, w, h = annotation['bbox']
    xs, ys = [n for p in parts for n in p[::2]], [n for p in parts for n in p[1::2]]
    inter_w = min(x + w, max(xs)) - max(x, min(xs))
    inter_h = min(y + h, max(ys)) - max(y, min(ys))
    inter = max(inter_w, 0) * max(inter_h, 0)
    around = (max(xs) - min(xs)) * (max(ys) - min(ys))
    return 3 * inter < w * h + around


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
                f'{path} has {len(wrong)} annotations whose {flag} is no number '
                f'(first: annotation {wrong[0].get("id")}, {flag} {wrong[0][flag]!r}); '
                'expected 0 or 1',
                where,
            )


def some(names: Iterable[Any], count: int = 5) -> str:
    """Return the first names as text."""
    names = list(names)
    return ', '.join(map(str, names[:count])) + ', ...' * (len(names) > count)
