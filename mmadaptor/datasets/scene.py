# SPDX-License-Identifier: Apache-2.0
"""What is in a picture of the `shapes` dataset, before anything is drawn.

A scene is plain data: a background, a column of lamps and a pile of layers,
those that carry a label and those that are clutter. `sampling.py` draws one at
random, `draw.py` makes the picture and the masks of it.

The class of a disc is not in the disc. It is in the lamp of the disc's rows,
at a side of the picture: see `LAMP_DISTANCE` and the table in `shapes.py`.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from . import geometry

SIZE = 128
LAMP_WIDTH, LAMP_HEIGHT = 8, 32  # in pixels; a column of lamps fills its side
LAMPS = SIZE // LAMP_HEIGHT
LAMP_DISTANCE = 16.0  # from a disc to its lamp, in pixels, or more
SIDES = ('left', 'right')

TARGETS = ('columns', 'disc', 'rows', 'star5', 'star6')
CLUTTER = ('triangle', 'bar', 'cross')

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Layer:
    """One shape of the pile.

    Args:
        kind: One of `TARGETS` or `CLUTTER`.
        centre: Its centre as (x, y) in pixels.
        radius: Its size, in pixels from the centre.
        angle: How far it is turned, in radians.
        colours: Its colour and the one of its stripes or spots, RGB.
        proportion: The notch of a star, the thickness of a bar or cross.
        texture: 'plain', 'spots' or 'stripes'.
        stripe: Width of a stripe and side of a spot, in pixels.
        stripe_angle: How far the stripes are turned from rows, in radians.
        seed: Where the spots come from.
    """

    kind: str
    centre: geometry.Point
    radius: float
    angle: float
    colours: tuple[Colour, Colour]
    proportion: float
    texture: str
    stripe: float
    stripe_angle: float
    seed: int

    @property
    def is_target(self) -> bool:
        """Whether the shape carries a label."""
        return self.kind in TARGETS


@dataclass(frozen=True)
class Lamps:
    """The column of lamps that decides what the picture's discs are.

    Args:
        side: The side of the picture that it fills, one of `SIDES`.
        lit: Whether each of the `LAMPS` is lit, from the top.
    """

    side: str
    lit: tuple[bool, ...]


@dataclass(frozen=True)
class Background:
    """What lies behind the pile.

    Args:
        colours: The two colours that it blends, RGB.
        pattern: 'none', 'checks' or 'waves'.
        period: The pattern's, in pixels.
        contrast: The pattern's, in grey levels.
        seed: Where the blotches and the grain come from.
    """

    colours: tuple[Colour, Colour]
    pattern: str
    period: int
    contrast: int
    seed: int


@dataclass
class Scene:
    """A picture's content.

    Args:
        background: What lies behind.
        lamps: The column of lamps, in front of everything.
        layers: The pile, the lowest first.
    """

    background: Background
    lamps: Lamps
    layers: list[Layer] = field(default_factory=list)

    def label(self, layer: Layer) -> str:
        """The class of one of the labelled layers.

        Args:
            layer: A layer for which `is_target` holds.

        Returns:
            The class: its kind, but of a disc what the lamp in its rows makes
            of it.
        """
        if layer.kind == 'disc':
            lit = self.lamps.lit[int(layer.centre[1] // LAMP_HEIGHT)]
            return 'disc_on' if lit else 'disc_off'
        return layer.kind

    def alone(self, layer: Layer) -> 'Scene':
        """The scene with nothing but one shape and the lamps.

        Args:
            layer: The shape that stays.

        Returns:
            A new scene.
        """
        return Scene(self.background, self.lamps, [layer])


def shape_distance(layer: Layer, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a layer's outline.

    Args:
        layer: The layer.
        u: Coordinates along its first axis `(h, w)`.
        v: Coordinates along its second axis `(h, w)`.

    Returns:
        The distances `(h, w)`.
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


@lru_cache(maxsize=32)  # the layers of one picture, asked for again and again
def outline(layer: Layer) -> tuple[slice, slice, np.ndarray]:
    """A layer's signed distance in the window of the picture that holds it.

    Args:
        layer: The layer.

    Returns:
        The window's rows and columns, and the distances `(h, w)` in it.
    """
    reach = 1.15 * layer.radius + 2
    window = [
        slice(max(int(at - reach), 0), min(int(at + reach) + 1, SIZE))
        for at in (layer.centre[1], layer.centre[0])
    ]
    u, v = geometry.local_grid(layer.centre, layer.angle, *window)
    distance = shape_distance(layer, u, v)
    distance.flags.writeable = False
    return *window, distance


def layer_mask(layer: Layer) -> np.ndarray:
    """The pixels that a layer covers where nothing lies over it.

    Args:
        layer: The layer.

    Returns:
        A boolean picture `(SIZE, SIZE)`.
    """
    mask = np.zeros((SIZE, SIZE), bool)
    rows, columns, distance = outline(layer)
    mask[rows, columns] = distance < 0
    return mask


def lamps_window(lamps: Lamps) -> tuple[slice, slice]:
    """The rows and the columns of the picture that the lamps fill.

    Args:
        lamps: The lamps.

    Returns:
        Both slices.
    """
    columns = dict(left=slice(0, LAMP_WIDTH), right=slice(SIZE - LAMP_WIDTH, SIZE))
    return slice(0, SIZE), columns[lamps.side]


def distance_to_lamps(layer: Layer, lamps: Lamps) -> float:
    """How far a disc is from the lamps' column.

    Args:
        layer: The disc.
        lamps: The lamps.

    Returns:
        The pixels between them.
    """
    x = layer.centre[0]
    depth = x if lamps.side == 'left' else SIZE - 1 - x
    return depth - layer.radius - LAMP_WIDTH


def has_one_lamp(layer: Layer) -> bool:
    """Whether a disc lies in the rows of one lamp.

    Args:
        layer: The disc.

    Returns:
        Whether no row of it is another lamp's.
    """
    y, radius = layer.centre[1], layer.radius
    top, bottom = (y - radius) // LAMP_HEIGHT, (y + radius) // LAMP_HEIGHT
    return top == bottom


def visible_masks(scene: Scene) -> list[np.ndarray]:
    """The pixels of each layer that nothing above it hides.

    Args:
        scene: The scene.

    Returns:
        A boolean picture `(SIZE, SIZE)` for each layer, in the layers' order;
        no two share a pixel.
    """
    free = np.ones((SIZE, SIZE), bool)
    free[lamps_window(scene.lamps)] = False
    visible = []
    for layer in reversed(scene.layers):
        mask = layer_mask(layer) & free
        free &= ~mask
        visible.append(mask)
    return visible[::-1]
