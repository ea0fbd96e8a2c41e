# SPDX-License-Identifier: Apache-2.0
"""A legend beside segmentation maps, in place of names that cover the objects."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.structures import PixelData

FONT, SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
ROW, SWATCH, GAP = 20, 12, 6  # in pixels


class Legend:
    """Mixin for mmseg's visualizer: names the classes that occur, beside the map."""

    def _draw_sem_seg(
        self,
        image: np.ndarray,
        sem_seg: PixelData,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        with_labels: bool = True,
    ) -> np.ndarray:
        drawn = super()._draw_sem_seg(image, sem_seg, classes, palette, False)
        if not with_labels:
            return drawn
        labels = np.unique(np.asarray(sem_seg.cpu().data))
        entries = [(classes[i], palette[i]) for i in labels if i < len(classes)]
        return np.hstack([drawn, draw_legend(entries, len(drawn))])


def draw_legend(entries: Sequence[tuple[str, Any]], height: int) -> np.ndarray:
    """Draw a legend.

    Args:
        entries: Name and color (RGB) of each class.
        height: Height in pixels; classes that do not fit start another column.

    Returns:
        `(height, W, 3)`, RGB, uint8.
    """
    rows = max(1, height // ROW)
    columns = [entries[i : i + rows] for i in range(0, len(entries), rows)]
    return np.hstack(
        [
            np.full((height, 0, 3), 255, np.uint8),
            *(_column(column, height) for column in columns),
        ]
    )


def _column(entries: Sequence[tuple[str, Any]], height: int) -> np.ndarray:
    widest = max(cv2.getTextSize(name, FONT, SCALE, 1)[0][0] for name, _ in entries)
    image = np.full((height, SWATCH + 3 * GAP + widest, 3), 255, np.uint8)
    for row, (name, color) in enumerate(entries):
        top = row * ROW + (ROW - SWATCH) // 2
        image[top : top + SWATCH, GAP : GAP + SWATCH] = color
        corner = (2 * GAP + SWATCH, top + SWATCH - 1)
        cv2.putText(image, name, corner, FONT, SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return image
