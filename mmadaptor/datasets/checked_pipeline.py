# SPDX-License-Identifier: Apache-2.0
"""Checks of labels that toolboxes ignore silently, and errors that name a file."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.dataset import Compose

from mmadaptor.errors import DamagedFileError, InputError, reason_of
from mmadaptor.toolbox_code import of_toolbox

from .image_files import image_problem

IGNORED = 255


class CheckedPipeline(Compose):
    """A pipeline whose errors name the file, and that checks semantic masks.

    Args:
        pipeline: The pipeline; its transforms are used as they are.
        num_classes: Number of classes of the masks. None: masks are not
            checked.
        ignored: The labels that stand for no class.
        may_relabel: Whether a user-defined model may read labels otherwise.
    """

    def __init__(
        self,
        pipeline: Compose,
        num_classes: int | None = None,
        ignored: Collection[int] = (IGNORED,),
        may_relabel: bool = False,
    ) -> None:
        self.transforms = pipeline.transforms
        self.num_classes, self.ignored = num_classes, sorted(ignored)
        remote = any(map(is_remote, self.transforms))
        self.read = () if remote else read_by_toolboxes(self.transforms)
        later = self.transforms[self._after_loading() :]
        own = not all(of_toolbox(type(step)) for step in later)
        self.may_relabel = may_relabel or own

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
        return self._run(self.transforms[: self._after_loading()], data)

    def _after_loading(self) -> int:
        """Return the index of the first transform after those that read files."""
        loading = (i for i, step in enumerate(self.transforms, 1) if _loads(step))
        return max(loading, default=0)

    def _run(self, transforms: Iterable, data: dict) -> dict | None:
        known = data if isinstance(data, Mapping) else {}
        image, mask = known.get('img_path'), known.get('seg_map_path')
        for path in map(known.get, self.read):
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
            checks = not had_mask and not self.may_relabel
            checks = checks and of_toolbox(type(transform))
            if checks and (problem := self.problem_of_mask(data)):
                raise InputError(problem)
        return data

    def problem_of_mask(self, result: dict) -> str:
        """Return what is wrong with a semantic mask that is loaded; empty for nothing.

        A user-defined transform may fix it.
        """
        mask = result.get('gt_seg_map')
        if not self.num_classes or mask is None:
            return ''
        size = result.get('ori_shape')
        problem = mask_problem(mask, size, self.num_classes, self.ignored)
        paths = result.get('seg_map_path'), result.get('img_path')
        return f'{paths[0]} {problem} (mask of {paths[1]})' if problem else ''


def _loads(transform: Any) -> bool:
    """Return whether a transform reads files."""
    return type(transform).__name__.startswith('Load')


def is_remote(reader: Any) -> bool:
    """Return whether a dataset or transform reads from another backend of mmengine."""
    for name, local in (('backend_args', 'local'), ('file_client_args', 'disk')):
        args = getattr(reader, name, None)
        if not isinstance(args, dict):
            continue
        if args.get('prefix') or args.get('backend', local) not in ('local', local):
            return True
    return False


def read_by_toolboxes(transforms: Iterable) -> tuple[str, ...]:
    """Return which paths of a sample the toolboxes' own transforms read.

    A user-defined transform may read anything else by them, such as a folder of
    tiles or an entry of an archive, or make them other paths.
    """
    loaders = ' '.join(_names_of_loaders(transforms))
    kinds = dict(img_path='Image', seg_map_path='Annotation')
    return tuple(name for name, kind in kinds.items() if kind in loaders)


def _names_of_loaders(transforms: Iterable) -> Iterator[str]:
    """Yield the names of loaders, up to the first user-defined transform."""
    for transform in transforms:
        if not of_toolbox(type(transform)):
            return
        if _loads(transform) and not getattr(transform, 'ignore_empty', False):
            yield type(transform).__name__
        inside = getattr(transform, 'transforms', None)
        yield from _names_of_loaders(inside if isinstance(inside, list) else ())


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
