# SPDX-License-Identifier: Apache-2.0
"""The embedded dataset, which is read by the loaders of the toolboxes."""

from .labels import CLASSES, PALETTE, SEGMENTATION_CLASSES, SEGMENTATION_PALETTE
from .shapes import make_shapes, prepare

__all__ = [
    'CLASSES',
    'PALETTE',
    'SEGMENTATION_CLASSES',
    'SEGMENTATION_PALETTE',
    'make_shapes',
    'prepare',
]
