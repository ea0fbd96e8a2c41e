# SPDX-License-Identifier: Apache-2.0
"""Enlarges small images, so that what is drawn on them can be read."""

import inspect
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmengine.visualization import Visualizer
from torch import Tensor

from .legend import Legend

SIDE = 512
"""Maximum longer side of an enlarged image, in pixels."""


class Enlarging:
    """Mixin for visualizers: enlarges images, up to a longer side of `SIDE` pixels.

    The factor is an integer, so that each pixel becomes a square.
    """

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: BaseDataElement | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Draw a sample as the visualizer does, enlarged.

        Args:
            name: Name of the figure.
            image: `(H, W, 3)`.
            data_sample: Annotations and predictions.
            args: Further arguments of the visualizer.
            kwargs: Further arguments of the visualizer.
        """
        factor = factor_of(image)
        if factor > 1 and data_sample is not None:
            data_sample = enlarged(data_sample, factor)
        super().add_datasample(name, enlarge(image), data_sample, *args, **kwargs)


def factor_of(image: np.ndarray) -> int:
    """Return the factor by which an image is enlarged."""
    return max(1, SIDE // max(image.shape[:2]))


def enlarge(image: np.ndarray) -> np.ndarray:
    """Return an image enlarged as by :class:`Enlarging`."""
    factor = factor_of(image)
    if factor == 1:
        return image
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_large(visualizer: Visualizer) -> None:
    """Make a visualizer enlarge images, see :class:`Enlarging`.

    One of mmseg also draws a legend beside the map, see :class:`.Legend`.

    Args:
        visualizer: Its class becomes a subclass, because hooks and inferencers already
            hold the object.
    """
    kind = type(visualizer)
    names_classes = 'with_labels' in inspect.signature(kind.add_datasample).parameters
    legend = (Legend,) if names_classes else ()
    visualizer.__class__ = type(f'Large{kind.__name__}', (Enlarging, *legend, kind), {})


def enlarged(sample: BaseDataElement, factor: int) -> BaseDataElement:
    """Return a copy of a sample on the CPU, with boxes and masks scaled by `factor`."""
    sample = sample.cpu().clone()
    for name, part in sample.items():
        if isinstance(part, PixelData) and name.endswith(('_seg', '_map')):
            maps = {key: _enlarge_masks(value, factor) for key, value in part.items()}
            sample.set_field(PixelData(**maps), name, dtype=PixelData)
        if isinstance(part, InstanceData):
            if 'bboxes' in part:
                part.bboxes = _scale(part.bboxes, factor)
            if 'masks' in part:
                part.masks = _enlarge_masks(part.masks, factor)
    return sample


def _scale(boxes: Any, factor: int) -> Any:
    if isinstance(boxes, Tensor):
        return boxes * factor
    boxes = boxes.clone()  # cloning a sample does not clone the boxes of mmdet
    boxes.rescale_((factor, factor))
    return boxes


def _enlarge_masks(masks: Any, factor: int) -> Any:
    if isinstance(masks, Tensor):
        return masks.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return masks.resize((masks.height * factor, masks.width * factor))
