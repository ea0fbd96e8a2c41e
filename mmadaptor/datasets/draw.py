# SPDX-License-Identifier: Apache-2.0
"""Rendering of scenes, by arithmetic that gives the same pixels on every machine."""

from functools import lru_cache

import numpy as np

from . import geometry
from .scene import (
    LAMP_HEIGHT,
    SIZE,
    Background,
    Lamps,
    Layer,
    Scene,
    lamps_window,
    outline,
)

BLOTCH = 16  # distance between the nodes of the blotches, in pixels
GRAIN = 3  # maximum absolute value of the grain, in gray levels
RIM = 1.5  # width of the dark rim of a shape, in pixels
RIM_SHADE = 0.45
SPOT_SHADE = 0.7
SPOT_SHARE = 0.3

LAMP_FRAME = (250, 250, 250)
LAMP_CORE = {True: (255, 225, 60), False: (45, 45, 60)}


def blotches(rng: np.random.Generator) -> np.ndarray:
    """Return soft random blotches, from 0 to 1, `(SIZE, SIZE)`.

    The values are exact in binary.
    """
    nodes = np.floor(rng.random((SIZE // BLOTCH + 1,) * 2) * 256) / 256
    at = np.arange(SIZE)
    low, share = at // BLOTCH, (at % BLOTCH) / BLOTCH
    rows = nodes[low] * (1 - share[:, None]) + nodes[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def pattern(background: Background) -> np.ndarray:
    """Return the pattern of the background in gray levels to add, `(SIZE, SIZE)`."""
    y, x = np.mgrid[:SIZE, :SIZE]
    period, contrast = background.period, background.contrast
    if background.pattern == 'checks':
        return contrast * ((x // period + y // period) % 2 - 0.5)
    if background.pattern == 'waves':
        # Diagonal triangle waves: only shapes have stripes along rows and columns.
        phase = (x + y + background.seed % period) % (2 * period)
        return contrast * (abs(phase - period) / period - 0.5)
    return np.zeros((SIZE, SIZE))


def draw_background(background: Background) -> np.ndarray:
    """Draw the background.

    Returns:
        Colors `(SIZE, SIZE, 3)`, float64, from about 0 to 255.
    """
    rng = np.random.default_rng(background.seed)
    share = blotches(rng)[..., None]
    one, other = (np.array(color, float) for color in background.colors)
    return one * (1 - share) + other * share + pattern(background)[..., None]


def texture(layer: Layer, rows: slice, columns: slice) -> np.ndarray:
    """Compute the colors inside a shape.

    Args:
        layer: The shape.
        rows: Rows of the window that contains it.
        columns: Columns of the window.

    Returns:
        Colors `(h, w, 3)`, or `(3,)` if there is only one; float64.
    """
    first, second = (np.array(color, float) for color in layer.colors)
    if layer.texture == 'plain':
        return first
    is_striped = layer.texture == 'stripes'
    angle = layer.stripe_angle if is_striped else layer.angle
    cells = [
        np.floor(at / layer.stripe).astype(int)
        for at in geometry.local_grid(layer.center, angle, rows, columns)
    ]
    if is_striped:
        return np.where((cells[1] % 2 == 0)[..., None], second, first)
    spots = np.random.default_rng(layer.seed).random((32, 32)) < SPOT_SHARE
    shade = np.where(spots[cells[0] % 32, cells[1] % 32], SPOT_SHADE, 1)
    return first * shade[..., None]


@lru_cache(maxsize=1)
def grain(seed: int) -> np.ndarray:
    """Return the grain of an image in integer gray levels to add, `(SIZE, SIZE, 1)`."""
    levels = np.random.default_rng([seed, 1]).random((SIZE, SIZE, 1))
    return np.floor(levels * (2 * GRAIN + 1)) - GRAIN


def paint_layer(image: np.ndarray, layer: Layer) -> None:
    """Draw a shape over an image.

    Args:
        image: Colors `(SIZE, SIZE, 3)`, changed in place.
        layer: The shape.
    """
    rows, columns, distance = outline(layer)
    rim = geometry.cover(-RIM - distance)[..., None]  # 1 in the rim and outside
    colors = texture(layer, rows, columns) * (1 - (1 - RIM_SHADE) * rim)
    alpha = geometry.cover(distance)[..., None]
    window = image[rows, columns]
    image[rows, columns] = window * (1 - alpha) + colors * alpha


def paint_lamps(image: np.ndarray, lamps: Lamps) -> None:
    """Draw the lamps over an image, each between two white lines.

    Args:
        image: Colors `(SIZE, SIZE, 3)`, changed in place.
        lamps: The lamps.
    """
    column = image[lamps_window(lamps)]
    for lamp, is_lit in enumerate(lamps.lit):
        window = column[lamp * LAMP_HEIGHT : (lamp + 1) * LAMP_HEIGHT]
        window[:] = LAMP_CORE[is_lit]
        window[[0, -1]] = LAMP_FRAME


def draw(scene: Scene, behind: np.ndarray) -> np.ndarray:
    """Draw the image of a scene.

    Args:
        scene: The scene.
        behind: The result of `draw_background` for its background.

    Returns:
        RGB `(SIZE, SIZE, 3)`, uint8.
    """
    image = behind.copy()
    for layer in scene.layers:
        paint_layer(image, layer)
    paint_lamps(image, scene.lamps)
    image += grain(scene.background.seed)
    return np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)
