# SPDX-License-Identifier: Apache-2.0
"""What is exported of a model of mmpretrain, mmseg or mmdet, and its metadata."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.errors import InputError, described
from mmadaptor.models.record import recording
from mmadaptor.toolbox_code import innermost
from mmadaptor.version import __version__

from .memory import memory_outputs

DENSE_OUTPUTS = ('cls_score', 'bbox_pred', 'centerness')
"""Names of what dense heads of mmdet return, a list of maps each."""


class Exported(nn.Module):
    """A model from normalized images to tensors, without what toolboxes do after it.

    Args:
        model: A model of a toolbox.
        task: One of `'classification'`, `'segmentation'`, `'detection'` and
            `'features'`; see :func:`task_of`.
        classes: Whether a segmentor returns the class of each pixel instead of logits.
        memory: Whether to return what :func:`.memory_outputs` does as well.

    Attributes:
        names: Names of the outputs, known after a first call.
        recorded: Paths of the layers whose memory they have, known as well.
    """

    def __init__(
        self, model: nn.Module, task: str, classes: bool = False, memory: bool = False
    ) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.classes, self.memory = classes, memory
        self.names: list[str] = []
        self.recorded: list[str] = []

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs.

        Args:
            images: `(B, C, H, W)`, normalized.

        Returns:
            Classification: logits `(B, classes)`. Segmentation: logits
            `(B, classes, H, W)`, or classes `(B, H, W)`. Detection: what the dense head
            returns for each map of the pyramid. Features: maps of the neck, or of the
            backbone if there is none. Then the memory, if asked for.
        """
        compute = getattr(self, f'_{self.task}')
        if self.memory:
            with recording(self.model) as records:
                outputs = compute(images)
            outputs.update(memory_outputs(records))
            self.recorded = list(records)
        else:
            outputs = compute(images)
        self.names = list(outputs)
        return tuple(outputs.values())

    def _classification(self, images: Tensor) -> dict[str, Tensor]:
        return dict(logits=self.model(images, mode='tensor'))

    def _segmentation(self, images: Tensor) -> dict[str, Tensor]:
        head = self.model.decode_head
        logits = head(self.model.extract_feat(images))
        logits = F.interpolate(
            logits, images.shape[2:], mode='bilinear', align_corners=head.align_corners
        )
        if not self.classes:
            return dict(logits=logits)
        if logits.shape[1] == 1:
            return dict(classes=(logits.sigmoid() > head.threshold).squeeze(1).long())
        return dict(classes=logits.argmax(dim=1))

    def _detection(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.model.extract_feat(images)
        two_stages = hasattr(self.model, 'rpn_head')
        head = self.model.rpn_head if two_stages else self.model.bbox_head
        outputs = dict(_numbered('map', maps)) if two_stages else {}
        found = head(maps)
        if len(found) > len(DENSE_OUTPUTS) or not all(map(_is_pyramid, found)):
            raise InputError(
                f'expected of {type(head).__name__} at most {len(DENSE_OUTPUTS)} lists '
                'of maps, got something else. --features exports the maps of the neck.'
            )
        for name, part in zip(DENSE_OUTPUTS, found, strict=False):
            outputs.update(_numbered(name, part))
        return outputs

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        model = self.model
        if not hasattr(model, 'extract_feat'):
            return dict(_numbered('map', model(images)))
        return dict(_numbered('map', model.extract_feat(images)))


def _is_pyramid(part: Any) -> bool:
    return isinstance(part, list | tuple) and all(map(torch.is_tensor, part))


def _numbered(name: str, tensors: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    return [(f'{name}_{i}', tensor) for i, tensor in enumerate(tensors)]


def task_of(model: nn.Module) -> str:
    """Return what of a model can be exported: the task of :class:`Exported`.

    Raises:
        InputError: Nothing.
    """
    toolbox = type(model).__module__.partition('.')[0]
    if hasattr(getattr(model, 'decode_head', None), 'align_corners'):
        return 'segmentation'
    if toolbox == 'mmpretrain' and getattr(model, 'with_head', False):
        return 'classification'
    if any(getattr(model, name, None) for name in ('rpn_head', 'bbox_head')):
        return 'detection'
    # Detectors of masks alone have a bbox_head that is None.
    has_head = any(hasattr(model, name) for name in ('decode_head', 'bbox_head'))
    has_head = has_head or getattr(model, 'with_head', False)
    if not has_head and hasattr(model, 'extract_feat'):
        return 'features'
    raise InputError(
        f'{type(model).__name__} cannot be exported: expected a classifier of '
        'mmpretrain, a segmentor of mmseg with one decode_head, or a detector of mmdet '
        'with an rpn_head or a bbox_head. --features exports the maps of any backbone.'
    )


def describe(
    model: nn.Module, size: tuple[int, int] | None, task: str, resize: str | None = None
) -> dict[str, str]:
    """Return the metadata of an exported model.

    Args:
        model: The model, with `dataset_meta` if it was loaded from a checkpoint.
        size: Height and width of the images in its test.
        task: Its task.
        resize: How its test resizes images, see :func:`resize_of_pipeline`.

    Returns:
        Texts by name: `task`, `mmadaptor_version`, `size` and `resize`; `classes` and
        `palette` as JSON if they are known; and of the preprocessing `mean` and `std`
        for pixels from 0 to 255, `channel_order` of the images, and `pad_size_divisor`.
    """
    found: dict[str, Any] = dict(size=list(size)) if size else {}
    if resize:
        found['resize'] = resize
    meta = getattr(model, 'dataset_meta', None) or {}
    for name in ('classes', 'palette'):
        if meta.get(name):
            found[name] = meta[name]
    preprocessor = getattr(model, 'data_preprocessor', None)
    if hasattr(preprocessor, 'mean'):
        found['mean'] = preprocessor.mean.flatten().tolist()
        found['std'] = preprocessor.std.flatten().tolist()
    if preprocessor is not None:
        swapped = any(
            getattr(preprocessor, name, False)
            for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
        )
        found['channel_order'] = 'rgb' if swapped else 'bgr'
    divisor = getattr(preprocessor, 'pad_size_divisor', None)
    if divisor:
        found['pad_size_divisor'] = divisor
    texts = {name: json.dumps(value) for name, value in found.items()}
    return dict(task=task, mmadaptor_version=__version__, **texts)


def sample_names(module: Exported, size: tuple[int, int], channels: int) -> list[str]:
    """Return the names of the outputs, by a first call.

    Raises:
        InputError: The model cannot be called with images alone.
    """
    device = next(module.parameters()).device
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, channels, *size, device=device))
    except Exception as error:
        raise InputError(
            f'{type(module.model).__name__} cannot be exported: it fails with images '
            f'alone: {described(error)}'
        ) from error
    return module.names


def size_of_pipeline(cfg: Mapping) -> tuple[int, int] | None:
    """Return height and width of the images of a config's test pipeline, if it says."""
    found = (cfg.get('data_preprocessor') or {}).get('size')
    for transform in _test_pipeline(cfg):
        size = transform.get('crop_size') or transform.get('scale')
        # Scales of mmcv are (width, height); crops of mmpretrain are squares.
        found = size[::-1] if isinstance(size, Sequence) else size or found
    return (found, found) if isinstance(found, int) else found and tuple(found)


def resize_of_pipeline(cfg: Mapping) -> str | None:
    """Return how a config's test pipeline resizes images to its size.

    Returns:
        `'keep_ratio'`, by which they fit into the size with the longer side along its
        longer one; `'stretch'`; or None if it does not resize them as mmcv does.
    """
    for transform in _test_pipeline(cfg):
        kind = transform['type']
        name = kind if isinstance(kind, str) else kind.__name__
        if name.rpartition('.')[2] == 'Resize':
            return 'keep_ratio' if transform.get('keep_ratio') else 'stretch'
    return None


def _test_pipeline(cfg: Mapping) -> Sequence[Mapping]:
    datasets = innermost(cfg.get('test_dataloader'))
    return (datasets[0].get('pipeline') if datasets else None) or ()
