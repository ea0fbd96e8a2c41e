# SPDX-License-Identifier: Apache-2.0
"""Pictures and masks that cannot be used are named as they are read."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS

from mmadaptor.errors import DamagedFileError, InputError
from mmadaptor.registry import TRANSFORMS

from .cfg_options import find_class
from .checks.datasets import class_names, leaves
from .checks.masks import IGNORED, is_sixteen_bit, mask_problem

GUARD = 'mmadaptor.GuardedLoading'
# A file that is cut, empty or of another format; which one depends on the
# decoder.
UNREADABLE = (OSError, AssertionError, cv2.error, SyntaxError, ValueError)


@TRANSFORMS.register_module()
class GuardedLoading(BaseTransform):
    """Loads a file by another transform; errors name the file.

    Args:
        transform: Config of the transform that loads.
        path: The key of the results that holds the file's path.
        num_classes: For a semantic mask: how many classes its labels are of;
            others are errors, which the toolboxes leave out of their metrics
            without a word. None: not checked.
        ignored: The label that stands for no class.
    """

    def __init__(
        self,
        transform: dict,
        path: str = 'img_path',
        num_classes: int | None = None,
        ignored: int = IGNORED,
    ) -> None:
        self.loader = MMENGINE_TRANSFORMS.build(transform)
        self.path = path
        self.num_classes = num_classes
        self.ignored = ignored

    def transform(self, results: dict) -> dict | None:
        """Loads the file.

        Args:
            results: The sample so far.

        Returns:
            The sample with the picture or mask.

        Raises:
            DamagedFileError: The file is missing, truncated or no picture.
            InputError: A mask does not fit its picture or the classes.
        """
        path = results.get(self.path)
        try:
            results = self.loader(results)
        except UNREADABLE as error:
            raise DamagedFileError(
                f'{path} cannot be read: {error or type(error).__name__}'
            ) from error
        if results and self.path == 'seg_map_path':
            self._check_mask(path, results)
        return results

    def _check_mask(self, path: str, results: dict) -> None:
        mask = results['gt_seg_map']
        problem = mask_problem(
            mask, results.get('ori_shape'), self.num_classes, {IGNORED, self.ignored}
        )
        if not problem and os.path.isfile(path) and is_sixteen_bit(path):
            problem = 'has 16 bits a pixel, of which 8 are read'
        if problem:
            raise InputError(f'{path} {problem} (mask of {results.get("img_path")})')

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.loader!r})'


def guard_loading(cfg: Config) -> None:
    """Has every picture and semantic mask of a job loaded with its name.

    Args:
        cfg: The config, whose pipelines are changed.
    """
    scope = cfg.get('default_scope')
    for node in _read_by_pipelines(cfg):
        cls = find_class(node['type'], scope)
        node['pipeline'] = [
            _guarded(step, node, cls, scope) for step in node['pipeline']
        ]


def unguard_loading(cfg: Config) -> None:
    """Undoes `guard_loading`, which the config that a run leaves has behind it.

    Args:
        cfg: The config, whose pipelines are changed.
    """
    for node in _read_by_pipelines(cfg):
        node['pipeline'] = [
            step['transform']
            if isinstance(step, dict) and step.get('type') == GUARD
            else step
            for step in node['pipeline']
        ]


def _read_by_pipelines(cfg: Config) -> Iterator[dict]:
    """The datasets' configs of all loaders."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, dict):
            for _, node in leaves(loader.get('dataset'), ''):
                if isinstance(node.get('pipeline'), list):
                    yield node


def _guarded(step: Any, node: Mapping, dataset: Any, scope: str | None) -> Any:
    """A transform's config, or the same inside of a `GuardedLoading`."""
    cls = find_class(step['type'], scope) if isinstance(step, dict) else None
    guard = dict(type=GUARD, transform=step)
    if cls is LoadImageFromFile:
        return guard
    module = getattr(cls, '__module__', '')
    if module.startswith('mmseg.') and cls.__name__ == 'LoadAnnotations':
        return dict(
            **guard,
            path='seg_map_path',
            num_classes=len(class_names(node, dataset)) or None,
            ignored=node.get('ignore_index', IGNORED),
        )
    return step
