# SPDX-License-Identifier: Apache-2.0
"""What is wrong with semantic masks, and with folders of them."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..cfg_options import default_of
from .coco_file import missing_files
from .report import Report

IGNORED = 255
# So many masks a split are read before a job starts; the others are checked
# as they are loaded.
SAMPLED = 200
PNG_BIT_DEPTH = 24  # its place in the file


def mask_problem(
    mask: np.ndarray,
    size: tuple[int, int] | None,
    num_classes: int | None,
    ignored: set[int],
) -> str:
    """Checks a semantic mask.

    Args:
        mask: The labels, `(H, W)` if it is right.
        size: Height and width of its picture; None: not checked.
        num_classes: Labels are below it; None: not checked.
        ignored: Other labels that may stand in it.

    Returns:
        What is wrong, as the rest of a sentence on the file; empty if nothing.
    """
    if mask.ndim != 2:
        return (
            f'has shape {mask.shape}, a colour picture; expected one label '
            'a pixel, (H, W)'
        )
    if size is not None and mask.shape != tuple(size[:2]):
        return (
            f'is {_size(mask.shape)} pixels, but its picture is '
            f'{_size(size)} (height x width)'
        )
    if num_classes is None:
        return ''
    values = np.flatnonzero(np.bincount(mask.ravel()))
    wrong = [int(v) for v in values if v >= num_classes and v not in ignored]
    if not wrong:
        return ''
    return (
        f'has labels {", ".join(map(str, wrong[:8]))}, but there are '
        f'{num_classes} classes: expected 0 to {num_classes - 1}, or '
        f'{", ".join(map(str, sorted(ignored)))} for none'
    )


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[0]} x {shape[1]}'


def is_sixteen_bit(path: str) -> bool:
    """Whether a file is a PNG of 16 bits a channel.

    Args:
        path: The file.

    Returns:
        Whether it is.
    """
    with open(path, 'rb') as file:
        head = file.read(PNG_BIT_DEPTH + 1)
    return head[1:4] == b'PNG' and head[-1] == 16


def check_masks(
    key: str, node: Mapping, cls: Any, classes: tuple[str, ...], report: Report
) -> None:
    """Checks the pictures and masks of a dataset like mmseg's.

    Args:
        key: The dataset's place in the config.
        node: Its config.
        cls: Its class.
        classes: The names of its classes.
        report: Takes what is wrong.
    """
    root, prefix = node.get('data_root') or '', node.get('data_prefix') or {}
    pictures = os.path.join(root, prefix.get('img_path') or '')
    suffix = node.get('img_suffix', default_of(cls, 'img_suffix'))
    stems = _listed(node, root) or _found(pictures, suffix)
    picture_key = f'{key}.data_prefix.img_path'
    if not stems:
        report.broken(
            picture_key,
            pictures,
            f'has no file named *{suffix}, which is what {key}.img_suffix says',
        )
        return
    lost = missing_files(pictures, tuple(s + suffix for s in stems))
    if lost:
        report.broken(picture_key, pictures, f'lacks {_first(lost, stems)}')
    if not prefix.get('seg_map_path'):
        return
    masks = os.path.join(root, prefix['seg_map_path'])
    mask_suffix = node.get('seg_map_suffix', default_of(cls, 'seg_map_suffix'))
    mask_key = f'{key}.data_prefix.seg_map_path'
    lost = missing_files(masks, tuple(s + mask_suffix for s in stems))
    if lost:
        report.broken(mask_key, masks, f'lacks the masks of {_first(lost, stems)}')
        return
    extra = set(_found(masks, mask_suffix)) - set(stems)
    if extra and not node.get('ann_file'):
        report.note(
            f'{masks}: {len(extra)} masks have no picture in '
            f'{pictures}, so they are left out: '
            f'{", ".join(sorted(extra)[:3])}'
        )
    for stem in stems[:: -(-len(stems) // SAMPLED)]:
        path = os.path.join(masks, stem + mask_suffix)
        picture = os.path.join(pictures, stem + suffix)
        problem = _problem_of(path, picture, node, cls, classes)
        if problem:
            report.broken(mask_key, path, problem)
            return


def _problem_of(
    path: str, picture: str, node: Mapping, cls: Any, classes: tuple[str, ...]
) -> str:
    """What is wrong with a mask as it lies on the disk, before any mapping."""
    try:
        with Image.open(picture) as image, Image.open(path) as labels:
            size, mask = image.size[::-1], np.asarray(labels)
    except (OSError, SyntaxError) as error:
        return f'or its picture {picture} cannot be read: {error}'
    if mask.dtype.kind != 'b' and mask.itemsize > 1:
        return 'has 16 bits a pixel or more, of which 8 are read'
    own = len(getattr(cls, 'METAINFO', {}).get('classes', ()))
    count = (own or len(classes)) or None
    if count and node.get('reduce_zero_label', default_of(cls, 'reduce_zero_label')):
        count += 1
    ignored = {IGNORED, node.get('ignore_index', IGNORED)}
    return mask_problem(mask.astype(np.uint8), size, count, ignored)


def _listed(node: Mapping, root: str) -> list[str]:
    """The stems that an annotation file lists; none if there is no file."""
    path = os.path.join(root, node.get('ann_file') or '')
    if not os.path.isfile(path):
        return []
    with open(path, encoding='utf-8') as file:
        return [line.strip() for line in file if line.strip()]


def _found(folder: str, suffix: str) -> list[str]:
    """The stems of the files below a folder that end in a suffix."""
    return sorted(
        os.path.relpath(os.path.join(place, name), folder)[: -len(suffix)]
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(suffix)
    )


def _first(lost: list[str], stems: list[str]) -> str:
    return f'{len(lost)} of the {len(stems)} pictures (first: {", ".join(lost[:3])})'
