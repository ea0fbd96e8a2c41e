# SPDX-License-Identifier: Apache-2.0
"""Content of an image of the `shapes` dataset.

A scene is plain data: a background, a column of lamps and a pile of layers, which are
labeled shapes and clutter. `sampling.py` draws random scenes, and `draw.py` renders
them.

The class of a disc is not visible in the disc. The lamp in its rows, at a side of the
image, decides the class: see the table in `shapes.py`.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from . import geometry

SIZE = 128
LAMP_WIDTH, LAMP_HEIGHT = 16, 32  # in pixels; the lamps fill one side of the image
LAMPS = SIZE // LAMP_HEIGHT
SIDES = ('left', 'right')

TARGETS = ('columns', 'disc', 'rows', 'star5', 'star6')
CLUTTER = ('triangle', 'bar', 'cross')

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Layer:
    """One shape of the pile.

    Args:
        kind: One of `TARGETS` or `CLUTTER`.
        center: Center as (x, y) in pixels.
        radius: Size, roughly the distance from the center to the outline, in pixels.
        angle: Rotation in radians.
        colors: Color of the shape, and of its stripes or spots, RGB.
        proportion: Notch of a star, or thickness of a bar or cross, as a ratio to the
            size.
        texture: 'plain', 'spots' or 'stripes'.
        stripe: Width of a stripe or side of a spot, in pixels.
        stripe_angle: Rotation of the stripes relative to rows, in radians.
        seed: Seed of the spots.
    """

    kind: str
    center: geometry.Point
    radius: float
    angle: float
    colors: tuple[Color, Color]
    proportion: float
    texture: str
    stripe: float
    stripe_angle: float
    seed: int

    @property
    def is_target(self) -> bool:
        """Whether the shape is labeled."""
        return self.kind in TARGETS


@dataclass(frozen=True)
class Lamps:
    """The column of lamps that decides the classes of the discs.

    Args:
        side: Side of the image that the lamps fill, one of `SIDES`.
        lit: Whether each of the `LAMPS` is lit, from the top.
    """

    side: str
    lit: tuple[bool, ...]


@dataclass(frozen=True)
class Background:
    """The background behind the pile.

    Args:
        colors: The two colors of the blotches, RGB.
        pattern: 'none', 'checks' or 'waves'.
        period: Period of the pattern, in pixels.
        contrast: Contrast of the pattern, in gray levels.
        seed: Seed of the blotches and the grain.
    """

    colors: tuple[Color, Color]
    pattern: str
    period: int
    contrast: int
    seed: int


@dataclass
class Scene:
    """The content of an image.

    Args:
        background: The background.
        lamps: The column of lamps, in front of everything.
        layers: The pile, from bottom to top.
    """

    background: Background
    lamps: Lamps
    layers: list[Layer] = field(default_factory=list)

    def label(self, layer: Layer) -> str:
        """Return the class of a labeled layer.

        The class of a disc depends on the lamp in its rows. The class of another shape
        is its kind.
        """
        if layer.kind == 'disc':
            lit = self.lamps.lit[int(layer.center[1] // LAMP_HEIGHT)]
            return 'disc_on' if lit else 'disc_off'
        return layer.kind

    def alone(self, layer: Layer) -> 'Scene':
        """Return a scene with only one shape and the lamps."""
        return Scene(self.background, self.lamps, [layer])


def shape_distance(layer: Layer, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Compute signed distances to the outline of a layer.

    Args:
        layer: The layer.
        u: Coordinates along its first axis, `(h, w)`.
        v: Coordinates along its second axis, `(h, w)`.

    Returns:
        Distances `(h, w)` in pixels.
    """
    radius, proportion = layer.radius, layer.proportion
    if layer.kind == 'disc':
        return geometry.disc(u, v, 0.92 * radius)
    corners = dict(
        columns=lambda: geometry.rectangle_corners(0.8 * radius, 0.8 * radius),
        rows=lambda: geometry.rectangle_corners(0.8 * radius, 0.8 * radius),
        star5=lambda: geometry.star_corners(5, 1.1 * radius, proportion),
        star6=lambda: geometry.star_corners(6, 1.1 * radius, proportion),
        triangle=lambda: geometry.star_corners(3, radius, 0.5),
        bar=lambda: geometry.rectangle_corners(radius, radius * proportion),
        cross=lambda: geometry.cross_corners(radius, radius * proportion),
    )
    return geometry.polygon(u, v, corners[layer.kind]())


@lru_cache(maxsize=32)  # enough for the layers of one image
def outline(layer: Layer) -> tuple[slice, slice, np.ndarray]:
    """Compute signed distances in the window of the image that contains a layer.

    Returns:
        Rows and columns of the window, and the distances `(h, w)` in it.
    """
    reach = 1.15 * layer.radius + 2
    window = [
        slice(max(int(at - reach), 0), min(int(at + reach) + 1, SIZE))
        for at in (layer.center[1], layer.center[0])
    ]
    u, v = geometry.local_grid(layer.center, layer.angle, *window)
    distance = shape_distance(layer, u, v)
    distance.flags.writeable = False
    return *window, distance


def layer_mask(layer: Layer) -> np.ndarray:
    """Return the pixels that a layer covers if nothing is above it.

    Returns:
        Boolean `(SIZE, SIZE)`.
    """
    mask = np.zeros((SIZE, SIZE), bool)
    rows, columns, distance = outline(layer)
    mask[rows, columns] = distance < 0
    return mask


def lamps_window(lamps: Lamps) -> tuple[slice, slice]:
    """Return the rows and the columns of the image that the lamps fill."""
    columns = dict(left=slice(0, LAMP_WIDTH), right=slice(SIZE - LAMP_WIDTH, SIZE))
    return slice(0, SIZE), columns[lamps.side]


def distance_to_lamps(layer: Layer, lamps: Lamps) -> float:
    """Return the distance between a disc and the column of lamps, in pixels."""
    x = layer.center[0]
    depth = x if lamps.side == 'left' else SIZE - 1 - x
    return depth - layer.radius - LAMP_WIDTH


def has_one_lamp(layer: Layer) -> bool:
    """Return whether all rows of a disc belong to one lamp."""
    y, radius = layer.center[1], layer.radius
    top, bottom = (y - radius) // LAMP_HEIGHT, (y + radius) // LAMP_HEIGHT
    return top == bottom


def visible_masks(scene: Scene) -> list[np.ndarray]:
    """Compute the visible pixels of each layer.

    Returns:
        Boolean `(SIZE, SIZE)` for each layer, in the order of the layers. They do not
        overlap.
    """
    free = np.ones((SIZE, SIZE), bool)
    free[lamps_window(scene.lamps)] = False
    visible = []
    for layer in reversed(scene.layers):
        mask = layer_mask(layer) & free
        free &= ~mask
        visible.append(mask)
    return visible[::-1]
