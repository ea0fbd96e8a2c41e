# SPDX-License-Identifier: Apache-2.0
"""Boxes and masks of objects, as mmdet and pycocotools read them."""

from typing import Any

import numpy as np

# pycocotools allocates by the length of an outline, and does not check what it gets.
FARTHEST = 1e7  # pixels
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
        if kind.__name__ == 'LoadAnnotations' and kind.__module__.startswith('mmdet.'):
            return transform
    return None


def trained_objects(info: dict) -> list[dict]:
    """Return the objects of a sample that are trained with."""
    return [o for o in info.get('instances') or () if not o.get('ignore_flag')]


def labels_in(info: dict) -> list[int]:
    """Return the labels of a sample: one, several, or those of its objects."""
    label = info.get('gt_label')
    if label is None:
        found = [o.get('bbox_label') for o in trained_objects(info)]
        return [label for label in found if label is not None]
    found = np.ravel(label)
    return found.tolist() if found.dtype.kind in 'iu' else []


def box_problem(box: Any, height: Any, width: Any) -> str:
    """Return what is odd about a box that mmdet trains with."""
    if len(box) != 4:  # rotated
        return ''
    x1, y1, x2, y2 = box
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


def mask_problem(mask: Any, height: int, width: int) -> str:
    """Return why a segmentation cannot be made a bitmap."""
    if not mask:
        return 'it has no segmentation'
    if isinstance(mask, list):
        try:
            read = all(sum(map(abs, polygon)) <= FARTHEST for polygon in mask)
        except TypeError:
            read = False
        return (
            '' if read else f'its polygons are not lists of numbers below {FARTHEST:g}'
        )
    if not isinstance(mask, dict):
        return 'its segmentation is neither polygons nor run lengths'
    size = list(mask.get('size') or ())
    same = size == [height, width]
    return '' if same else f'its run lengths have size {size}, not {[height, width]}'
