# SPDX-License-Identifier: Apache-2.0
"""Enlarges small images, so that drawn labels do not cover their objects."""

from functools import wraps
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement, InstanceData
from mmengine.visualization import Visualizer
from torch import Tensor

SIDE = 512
"""Maximum longer side of an enlarged image, in pixels."""


def draw_large(visualizer: Visualizer) -> None:
    """Make a visualizer of mmdet enlarge images, up to a longer side of `SIDE` pixels.

    The factor is an integer, so that each pixel becomes a square.

    Args:
        visualizer: Its `add_datasample` is replaced.
    """
    draw = visualizer.add_datasample

    @wraps(draw)
    def add_datasample(
        name: str,
        image: np.ndarray,
        data_sample: BaseDataElement | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        factor = SIDE // max(image.shape[:2])
        if factor > 1:
            image = image.repeat(factor, axis=0).repeat(factor, axis=1)
            if data_sample is not None:
                data_sample = enlarged(data_sample, factor)
        draw(name, image, data_sample, *args, **kwargs)

    visualizer.add_datasample = add_datasample


def enlarged(sample: BaseDataElement, factor: int) -> BaseDataElement:
    """Return a copy of a sample on the CPU, with boxes and masks scaled by `factor`."""
    sample = sample.cpu().clone()
    for part in sample.values():
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
