# SPDX-License-Identifier: Apache-2.0
"""Boxes and masks of objects, as mmdet and pycocotools read them."""

from typing import Any

import numpy as np

from mmadaptor.toolbox_code import of_toolbox

# pycocotools allocates by the length of an outline, and does not check what it gets.
FARTHEST = LONGEST = 1e7  # pixels
FLAT = 'have a box without a positive width and height, which may end in a loss of NaN'
OUTSIDE = (
    'have a box that reaches outside of its image; a bbox of a COCO file is x, y, '
    'width, height in pixels'
)

POINTLESS = 'have no polygon of three points or more, so that mmdet ignores them'


def object_loader(dataset: Any) -> Any:
    """Return mmdet's transform that reads the objects of a dataset, if it has it."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        kind = type(transform)
        if kind.__name__ == 'LoadAnnotations' and of_toolbox(kind, 'mmdet'):
            return transform
    return None


def trained_objects(info: dict) -> list[dict]:
    """Return the objects of a sample that are trained with."""
    return [thing for thing in objects_in(info) if not thing.get('ignore_flag')]


def objects_in(info: dict) -> list[dict]:
    """Return the objects of a sample; none if they have another form than mmdet's."""
    things = info.get('instances')
    known = isinstance(things, list | tuple) and all(
        isinstance(o, dict) for o in things
    )
    return list(things) if known else []


def labels_in(info: dict) -> list[int]:
    """Return the labels of a sample: one, several, or those of its objects.

    Labels of a form that is not known are left out.
    """
    label = info.get('gt_label')
    if label is None:
        label = [o['bbox_label'] for o in trained_objects(info) if 'bbox_label' in o]
    try:
        found = np.ravel(label)
    except (TypeError, ValueError):  # lists of several lengths
        return []
    return found.tolist() if found.dtype.kind in 'iu' else []


def size_in(info: dict) -> tuple[float, float] | None:
    """Return the height and width that the annotations of an image say, if they do."""
    size = info.get('height'), info.get('width')
    return size if all(isinstance(number, int | float) for number in size) else None


def farthest_box(info: dict, height: float, width: float) -> list[float] | None:
    """Return the first trained box that reaches outside an image of a size."""
    boxes = [thing.get('bbox') for thing in trained_objects(info)]
    outside = [b for b in boxes if box_problem(b, height, width) == OUTSIDE]
    return list(outside[0]) if outside else None


def box_problem(box: Any, height: Any, width: Any) -> str:
    """Return what is odd about a box that mmdet trains with."""
    try:
        x1, y1, x2, y2 = map(float, box)
    except (TypeError, ValueError):  # rotated, or of a loader of its own
        return ''
    if not (x2 > x1 and y2 > y1):  # also NaN
        return FLAT
    if not (height and width):
        return ''
    # Many annotation tools round outwards.
    return OUTSIDE * (min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1)


def loses_polygons(mask: Any) -> bool:
    """Return whether mmdet reads no polygon of a segmentation, and ignores its object.

    It leaves out polygons of two points or an odd length.
    """
    return isinstance(mask, list) and not any(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        for polygon in mask
    )


def _can_be_drawn(polygon: list[float]) -> bool:
    """Return whether pycocotools can draw a polygon, and has the memory for it."""
    if sum(map(abs, polygon)) <= FARTHEST:
        return True
    points = np.array(polygon[: len(polygon) // 2 * 2], float).reshape(-1, 2)
    sides = np.abs(points - np.roll(points, 1, axis=0)).max(1)
    return np.abs(points).max() <= FARTHEST and sides.sum() <= LONGEST


def mask_problem(mask: Any, height: int | None, width: int | None) -> str:
    """Return why a segmentation cannot be made a bitmap.

    Without a height and width of the image, any size will do.
    """
    if not mask:
        return 'it has no segmentation'
    if isinstance(mask, list):
        try:
            read = all(map(_can_be_drawn, mask))
        except (OverflowError, TypeError, ValueError):
            read = False
        return (
            ''
            if read
            else f'its polygons are not lists of numbers below {FARTHEST:g}, with an '
            f'outline that is shorter'
        )
    if not isinstance(mask, dict):
        return 'its segmentation is neither polygons nor run lengths'
    size = mask.get('size')
    size = [] if size is None else list(size)
    unknown = height is None and len(size) == 2  # mmdet takes that of the image
    return (
        ''
        if unknown or size == [height, width]
        else f'its run lengths have size {size}, not {[height, width]}'
    )
