# SPDX-License-Identifier: Apache-2.0
"""Checks of boxes and masks, as mmdet's `LoadAnnotations` and pycocotools read them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .report import Report

# pycocotools takes some 40 bytes per pixel of an outline, and does not check that
# it gets them. It computes in 32-bit integers, at five times the resolution.
LONGEST = 1e7
FARTHEST = 4e8


def finite(numbers: Iterable) -> bool:
    """Return whether all are finite numbers."""
    try:
        return all(map(math.isfinite, numbers))
    except (TypeError, OverflowError):
        return False


def object_loader(dataset: Any) -> Any:
    """Return mmdet's transform that reads the objects of a dataset, if it has it."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        kind = type(transform)
        if kind.__name__ == 'LoadAnnotations' and kind.__module__.startswith('mmdet.'):
            return transform
    return None


def object_problems(info: dict, loader: Any) -> list[str]:
    """Check the objects of an image that mmdet trains with.

    Args:
        info: The sample, as `get_data_info` returns it.
        loader: The result of `object_loader`.

    Returns:
        A sentence for each object that cannot be used.
    """
    found = []
    for instance in info.get('instances') or ():
        problem = ''
        if loader.with_bbox and not finite(instance.get('bbox', ())):
            problem = 'its box is not made of finite numbers'
        elif loader.with_mask and instance.get('mask') is None:
            problem = 'it has no segmentation'
        elif loader.with_mask:
            problem = segmentation_problem(
                instance['mask'], (info['height'], info['width']), loader.poly2mask
            )
        if problem:
            box = str(instance.get('bbox'))
            found.append(f'{info.get("img_path")}, box {box:.60}: {problem}')
    return found


def flat_objects(info: dict) -> list[str]:
    """Name the objects to train with whose box has no area; a pipeline may drop them.

    The dataset of COCO files leaves them out itself, those of other files do not.
    """
    boxes = [o['bbox'] for o in _to_train_with(info) if 'bbox' in o]
    return [
        f'{info.get("img_path")}, x1, y1, x2, y2 {list(box)}'
        for box in boxes
        if len(box) == 4 and (box[2] <= box[0] or box[3] <= box[1])
    ]


def labels_in(info: dict) -> list[int]:
    """Return the labels of a sample: one, several, or those of its objects."""
    label = info.get('gt_label')
    if label is None:
        return [
            o['bbox_label']
            for o in _to_train_with(info)
            if o.get('bbox_label') is not None
        ]
    found = np.ravel(label)
    return found.tolist() if found.dtype.kind in 'iu' else []


def _to_train_with(info: dict) -> list[dict]:
    return [o for o in info.get('instances') or () if not o.get('ignore_flag')]


def note_outlines(where: str, path: str, outlines: Counter, report: Report) -> None:
    """Tell how many objects lose polygons, or are ignored.

    Args:
        where: The key of the config that names the file.
        path: The annotation file.
        outlines: How many objects have which result of `outline_of`.
        report: Takes the problem or the notes.
    """
    left_out = 'polygons of an odd length or less than three points'
    if outlines['none'] and not outlines['all'] + outlines['part']:
        report.problem(
            f'{path}: mmdet ignores all {outlines["none"]} objects: they have '
            f'{left_out}, or run lengths without size and counts, or run lengths '
            'where poly2mask=False',
            where,
        )
    elif outlines['none'] + outlines['part']:
        report.note(
            f'{path}: mmdet leaves out {left_out}; so it ignores {outlines["none"]} '
            f'objects, and {outlines["part"]} lose a part of their mask'
        )


def outlines_of(info: dict, loader: Any) -> Iterator[str]:
    """Yield for each object to train with the result of `outline_of`."""
    for instance in info.get('instances') or ():
        mask = instance.get('mask')
        if isinstance(mask, list | dict) and not instance['ignore_flag']:
            yield outline_of(mask, loader.poly2mask)


def segmentation_problem(mask: Any, size: tuple[int, int], poly2mask: bool) -> str:
    """Check a segmentation; mmdet itself leaves out some that are no mask.

    Args:
        mask: Polygons or run lengths.
        size: Height and width of the image.
        poly2mask: Whether masks become bitmaps.
    """
    if isinstance(mask, list):
        return next(filter(None, map(polygon_problem, mask)), '')
    if not poly2mask:
        return ''
    if not isinstance(mask, dict):
        return 'its segmentation is neither polygons nor run lengths'
    if outline_of(mask) == 'none':
        return ''
    counts = mask['counts']
    if mask['size'] != list(size):
        return f'its run lengths have size {mask["size"]}, its image {list(size)}'
    try:
        lengths = decode_counts(counts) if isinstance(counts, str) else counts
        lengths = [int(length) for length in lengths]
    except (TypeError, ValueError, OverflowError):
        return 'its run lengths cannot be decoded'
    # pycocotools leaves pixels without a run as they are in memory.
    if min(lengths, default=0) < 0 or sum(lengths) != size[0] * size[1]:
        return f'its run lengths add up to {sum(lengths)}, not {size[0]} x {size[1]}'
    return ''


def outline_of(mask: Any, poly2mask: bool = True) -> str:
    """Return how much of a segmentation mmdet reads: `all`, `part` or `none`.

    It leaves out polygons of two points or an odd length, and ignores objects of which
    nothing is left.

    Source: `LoadAnnotations._process_masks` of mmdet.
    """
    if isinstance(mask, list):
        read = [len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask]
        return 'all' if all(read) else 'part' if any(read) else 'none'
    counts, size = mask.get('counts'), mask.get('size')
    readable = poly2mask and size is not None and isinstance(counts, list | str)
    return 'all' if readable else 'none'


def polygon_problem(polygon: Any) -> str:
    """Check a polygon; mmdet leaves out those of an odd length or of two points."""
    try:
        if len(polygon) % 2 or len(polygon) < 6:
            return ''
        if 2 * sum(map(abs, polygon)) <= LONGEST:  # an upper bound of the outline
            return ''
        points = np.array(polygon, float).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return (
            'its polygon is not a list of numbers; a segmentation is a list of '
            'polygons, [[x1, y1, x2, y2, ...], ...]'
        )
    if not np.isfinite(points).all():
        return 'its polygon has NaN or infinite numbers'
    outline = abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if outline > LONGEST or abs(points).max() > FARTHEST:
        return f'its polygon has an outline of {outline:.3g} pixels'
    return ''


def decode_counts(text: str) -> list[int]:
    """Decode the run lengths of a compressed COCO mask.

    Source: `rleFrString` of pycocotools: 5 bits a character, from 48 on; bit 5 says
    that more follow, and from the third on each is the difference to the one before the
    last.

    Raises:
        ValueError: The text is cut, or has other characters.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(character)
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError('cut')
    return counts
