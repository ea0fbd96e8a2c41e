# SPDX-License-Identifier: Apache-2.0
"""Checks of labels that toolboxes ignore silently, and errors that name a file."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from mmengine.dataset import Compose

from mmadaptor.errors import DamagedFileError, InputError, reason_of

from .image_files import image_problem

IGNORED = 255


class CheckedPipeline(Compose):
    """A pipeline whose errors name the file, and that checks semantic masks.

    Args:
        pipeline: The pipeline; its transforms are used as they are.
        num_classes: Number of classes of the masks. None: masks are not
            checked.
        ignored: The labels that stand for no class.
    """

    def __init__(
        self,
        pipeline: Compose,
        num_classes: int | None = None,
        ignored: Collection[int] = (IGNORED,),
    ) -> None:
        self.transforms = pipeline.transforms
        self.num_classes, self.ignored = num_classes, sorted(ignored)
        self.remote = any(map(is_remote, self.transforms))

    def __call__(self, data: dict) -> dict | None:
        """Transform a sample.

        Raises:
            DamagedFileError: A file of the sample cannot be read, or is a pipe or
                a device.
            InputError: The labels of a mask do not fit its image or the
                classes.
            RuntimeError: Another transform fails; the message names the sample.
        """
        return self._run(self.transforms, data)

    def load(self, data: dict) -> dict | None:
        """Run the transforms up to the last one that reads files."""
        last = max((i for i, t in enumerate(self.transforms) if _loads(t)), default=-1)
        return self._run(self.transforms[: last + 1], data)

    def _run(self, transforms: Iterable, data: dict) -> dict | None:
        image, mask = data.get('img_path'), data.get('seg_map_path')
        for path in () if self.remote else (image, mask):
            if isinstance(path, str) and (problem := image_problem(path)):
                raise DamagedFileError(f'{path} {problem}')
        for transform in transforms:
            had_mask = 'gt_seg_map' in data
            try:
                data = transform(data)
            except InputError:
                raise
            except Exception as error:
                text = f'{type(transform).__name__}: {reason_of(error)}'
                if _loads(transform):
                    paths = ' or its labels '.join(filter(None, (image, mask)))
                    text = f'{paths} cannot be read: {text}'
                    raise DamagedFileError(text) from error
                raise RuntimeError(f'{image}: {text}') from error
            if data is None:
                return None
            if self.num_classes and not had_mask and 'gt_seg_map' in data:
                self._check_mask(data, image, mask)
        return data

    def _check_mask(self, result: dict, image: str, path: str) -> None:
        problem = mask_problem(
            result['gt_seg_map'],
            result.get('ori_shape'),
            self.num_classes,
            self.ignored,
        )
        if problem:
            raise InputError(f'{path} {problem} (mask of {image})')


def _loads(transform: Any) -> bool:
    """Return whether a transform reads files."""
    return type(transform).__name__.startswith('Load')


def is_remote(reader: Any) -> bool:
    """Return whether a dataset or transform reads from another backend of mmengine."""
    args = getattr(reader, 'backend_args', None)
    return bool(args) and args.get('backend', 'local') != 'local'


def mask_problem(
    mask: np.ndarray,
    size: tuple[int, ...] | None,
    num_classes: int,
    ignored: Collection[int],
) -> str:
    """Check a semantic mask."""
    if mask.ndim == 3 and mask.shape[-1] in (2, 3, 4):
        return (
            f'has shape {mask.shape}, as a color image; expected one label '
            'per pixel, (H, W)'
        )
    if size is not None and mask.ndim == 2 and mask.shape != tuple(size[:2]):
        return (
            f'has {mask.shape[0]} x {mask.shape[1]} pixels, its image has '
            f'{size[0]} x {size[1]} (height x width)'
        )
    wrong = [
        v for v in labels_of(mask) if not 0 <= v < num_classes and v not in ignored
    ]
    if not wrong:
        return ''
    # ADE20K's label 0, for example, is no class.
    zero = '; labels that count from 1 need reduce_zero_label=True'
    return (
        f'has labels {", ".join(map(str, wrong[:8]))}, and there are '
        f'{num_classes} classes: expected 0 to {num_classes - 1}, or '
        f'{", ".join(map(str, sorted(ignored)))} for none'
        f'{zero * (wrong == [num_classes])}'
    )


def labels_of(mask: np.ndarray) -> list[int]:
    """Return the labels that occur in a mask, in ascending order."""
    if mask.dtype == np.uint8:  # 20 times faster than unique
        return np.flatnonzero(np.bincount(mask.ravel())).tolist()
    return np.unique(mask).tolist()
