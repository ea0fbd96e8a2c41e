# SPDX-License-Identifier: Apache-2.0
"""Random scenes of the `shapes` dataset.

Of numpy's generator only `random` is used: its stream is the one that stayed
the same through numpy's versions, so a seed means the same pictures everywhere.
"""

import colorsys
import math
from dataclasses import replace

import numpy as np

from .scene import (
    CLUTTER,
    LAMP_DISTANCE,
    LAMPS,
    SIDES,
    SIZE,
    TARGETS,
    Background,
    Colour,
    Lamps,
    Layer,
    Scene,
    distance_to_lamps,
    has_one_lamp,
    lamps_window,
    layer_mask,
)

TARGETS_IN_PICTURE = (3, 6)
CLUTTER_IN_PICTURE = (4, 8)
RADIUS = (11.0, 26.0)
DISC_RADIUS = (9.0, 15.0)  # a disc lies in the rows of one lamp
STRIPE = (2.0, 3.0)  # a stripe's width, in pixels
MIN_VISIBLE = 0.6  # the share of a labelled shape that stays in sight
MIN_PIXELS = 150  # and its least area
TRIES = 60


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform number.

    Args:
        rng: The source.
        low: The least value.
        high: The bound above.

    Returns:
        The number.
    """
    return low + (high - low) * float(rng.random())


def choose(rng: np.random.Generator, items: tuple) -> object:
    """One of some items, each as likely.

    Args:
        rng: The source.
        items: What to choose from.

    Returns:
        The item.
    """
    return items[int(rng.random() * len(items))]


def sample_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Colour:
    """A colour of any hue.

    Args:
        rng: The source.
        saturation: Its least and greatest saturation.
        value: Its least and greatest brightness.

    Returns:
        RGB, each from 0 to 255.
    """
    rgb = colorsys.hsv_to_rgb(
        float(rng.random()), between(rng, *saturation), between(rng, *value)
    )
    return tuple(round(255 * part) for part in rgb)


def sample_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """A bright and a dark colour, in either order, both strong.

    Args:
        rng: The source.

    Returns:
        The shape's colour and its second one.
    """
    bright = sample_colour(rng, (0.35, 0.8), (0.85, 1.0))
    dark = sample_colour(rng, (0.6, 1.0), (0.3, 0.5))
    return (bright, dark) if rng.random() < 0.6 else (dark, bright)


def sample_background(rng: np.random.Generator) -> Background:
    """A dull background.

    Args:
        rng: The source.

    Returns:
        The background.
    """
    return Background(
        colours=(
            sample_colour(rng, (0.05, 0.3), (0.35, 0.75)),
            sample_colour(rng, (0.05, 0.3), (0.35, 0.75)),
        ),
        pattern=choose(rng, ('none', 'checks', 'waves')),
        period=int(between(rng, 7, 17)),
        contrast=int(between(rng, 6, 16)),
        seed=int(rng.random() * 2**32),
    )


def sample_target(rng: np.random.Generator) -> Layer:
    """A labelled shape, its place still open.

    Every other one is a disc: what they are is learned from many lamps.

    Args:
        rng: The source.

    Returns:
        The layer.
    """
    kind = 'disc' if rng.random() < 0.5 else choose(rng, TARGETS)
    low, high = DISC_RADIUS if kind == 'disc' else RADIUS
    striped = kind in ('rows', 'columns')
    tilt = between(rng, -0.15, 0.15)
    return Layer(
        kind=kind,
        centre=(0.0, 0.0),
        radius=low * (high / low) ** float(rng.random()),
        angle=between(rng, 0, 2 * math.pi),
        colours=sample_colours(rng),
        proportion=between(rng, 0.45, 0.55),
        texture='stripes' if striped else choose(rng, ('plain', 'spots')),
        stripe=between(rng, *STRIPE),
        stripe_angle=tilt + (math.pi / 2 if kind == 'columns' else 0),
        seed=int(rng.random() * 2**32),
    )


def sample_clutter(rng: np.random.Generator) -> Layer:
    """A shape without a label, its place still open.

    Args:
        rng: The source.

    Returns:
        The layer.
    """
    kind = choose(rng, CLUTTER)
    thickness = dict(triangle=(1.0, 1.0), bar=(0.12, 0.3), cross=(0.2, 0.35))[kind]
    return Layer(
        kind=kind,
        centre=(0.0, 0.0),
        radius=between(rng, *((12, 30) if kind == 'bar' else (6, 16))),
        angle=between(rng, 0, 2 * math.pi),
        colours=sample_colours(rng),
        proportion=between(rng, *thickness),
        texture=choose(rng, ('plain', 'spots')),
        stripe=between(rng, *STRIPE),
        stripe_angle=0.0,
        seed=int(rng.random() * 2**32),
    )


def may_lie(layer: Layer, lamps: Lamps) -> bool:
    """Whether a labelled shape's place suits its lamps.

    Args:
        layer: The layer.
        lamps: The lamps.

    Returns:
        Whether, if it is a disc, it has one lamp and keeps its distance.
    """
    return layer.kind != 'disc' or (
        has_one_lamp(layer) and distance_to_lamps(layer, lamps) >= LAMP_DISTANCE
    )


class Pile:
    """A scene in the making, which keeps every labelled shape in sight.

    Args:
        scene: The scene, with no layers yet.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.lamps = np.zeros((SIZE, SIZE), bool)
        self.lamps[lamps_window(scene.lamps)] = True
        self.seen: list[tuple[np.ndarray, int]] = []  # mask, least area

    def fits(self, layer: Layer, mask: np.ndarray) -> bool:
        """Whether a layer can go on top.

        Args:
            layer: The layer.
            mask: The pixels that it covers.

        Returns:
            Whether it and what lies under it stay in sight.
        """
        if layer.is_target and (
            not may_lie(layer, self.scene.lamps) or mask.sum() < MIN_PIXELS
        ):
            return False
        return all((below & ~mask).sum() >= least for below, least in self.seen)

    def add(self, rng: np.random.Generator, layer: Layer) -> bool:
        """Put a layer on top, where a place is found for it.

        Args:
            rng: The source of places.
            layer: The layer, its place open.

        Returns:
            Whether there was a place.
        """
        margin = 0.75 * layer.radius if layer.is_target else 0.0
        for _ in range(TRIES):
            layer = replace(
                layer,
                centre=(
                    between(rng, margin, SIZE - margin),
                    between(rng, margin, SIZE - margin),
                ),
            )
            mask = layer_mask(layer) & ~self.lamps
            if not self.fits(layer, mask):
                continue
            self.seen = [(below & ~mask, least) for below, least in self.seen]
            if layer.is_target:
                least = max(MIN_PIXELS, int(MIN_VISIBLE * mask.sum()))
                self.seen.append((mask, least))
            self.scene.layers.append(layer)
            return True
        return False


def sample_scene(rng: np.random.Generator) -> Scene:
    """A picture's content.

    Args:
        rng: The source.

    Returns:
        The scene, with three labelled shapes or more.
    """
    lamps = Lamps(choose(rng, SIDES), tuple(rng.random() < 0.5 for _ in range(LAMPS)))
    pile = Pile(Scene(sample_background(rng), lamps))
    targets, clutter = (
        int(between(rng, low, high + 1))
        for low, high in (TARGETS_IN_PICTURE, CLUTTER_IN_PICTURE)
    )
    placed = 0
    while targets + clutter > 0 or placed < TARGETS_IN_PICTURE[0]:
        # Any order is as likely, so clutter lies over shapes and under them.
        is_target = clutter == 0 or (rng.random() * (targets + clutter) < targets)
        layer = sample_target(rng) if is_target else sample_clutter(rng)
        done = pile.add(rng, layer)
        placed += is_target and done
        targets -= is_target and targets > 0
        clutter -= not is_target
    return pile.scene
