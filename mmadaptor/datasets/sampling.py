# SPDX-License-Identifier: Apache-2.0
"""Random scenes of the `shapes` dataset.

Only `random` of the numpy generator is used. Its stream is the same in all versions of
numpy, so that a seed gives the same images everywhere.
"""

import colorsys
import math
from dataclasses import replace

import numpy as np

from .scene import (
    CLUTTER,
    LAMPS,
    SIDES,
    SIZE,
    TARGETS,
    Background,
    Color,
    Lamps,
    Layer,
    Scene,
    distance_to_lamps,
    has_one_lamp,
    lamps_window,
    layer_mask,
)

TARGETS_IN_IMAGE = (3, 6)
CLUTTER_IN_IMAGE = (4, 8)
RADIUS = (11.0, 26.0)
DISC_RADIUS = (9.0, 15.0)  # small enough for the rows of one lamp
STRIPE = (2.0, 3.0)  # width of a stripe, in pixels
MIN_VISIBLE = 0.6  # minimum visible fraction of a labeled shape
MIN_PIXELS = 150  # minimum visible area of a labeled shape, in pixels
TRIES = 60


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a uniform number from `low` (included) to `high` (excluded)."""
    return low + (high - low) * float(rng.random())


def choose(rng: np.random.Generator, items: tuple) -> object:
    """Draw one of the items with equal probability."""
    return items[int(rng.random() * len(items))]


def sample_color(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Color:
    """Draw a color of any hue.

    Args:
        rng: The random generator.
        saturation: Minimum and maximum of the saturation, from 0 to 1.
        value: Minimum and maximum of the brightness, from 0 to 1.

    Returns:
        RGB, each from 0 to 255.
    """
    rgb = colorsys.hsv_to_rgb(
        float(rng.random()), between(rng, *saturation), between(rng, *value)
    )
    return tuple(round(255 * part) for part in rgb)


def sample_colors(rng: np.random.Generator) -> tuple[Color, Color]:
    """Draw a bright and a dark saturated color, in either order."""
    bright = sample_color(rng, (0.35, 0.8), (0.85, 1.0))
    dark = sample_color(rng, (0.6, 1.0), (0.3, 0.5))
    return (bright, dark) if rng.random() < 0.6 else (dark, bright)


def sample_background(rng: np.random.Generator) -> Background:
    """Draw a background of low saturation."""
    return Background(
        colors=(
            sample_color(rng, (0.05, 0.3), (0.35, 0.75)),
            sample_color(rng, (0.05, 0.3), (0.35, 0.75)),
        ),
        pattern=choose(rng, ('none', 'checks', 'waves')),
        period=int(between(rng, 7, 17)),
        contrast=int(between(rng, 6, 16)),
        seed=int(rng.random() * 2**32),
    )


def sample_target(rng: np.random.Generator) -> Layer:
    """Draw a labeled shape without its position.

    60 % of the draws are discs, because many lamps are needed to learn their classes.
    """
    kind = 'disc' if rng.random() < 0.5 else choose(rng, TARGETS)
    low, high = DISC_RADIUS if kind == 'disc' else RADIUS
    striped = kind in ('rows', 'columns')
    tilt = between(rng, -0.15, 0.15)
    return Layer(
        kind=kind,
        center=(0.0, 0.0),
        radius=low * (high / low) ** float(rng.random()),
        angle=between(rng, 0, 2 * math.pi),
        colors=sample_colors(rng),
        proportion=between(rng, 0.45, 0.55),
        texture='stripes' if striped else choose(rng, ('plain', 'spots')),
        stripe=between(rng, *STRIPE),
        stripe_angle=tilt + (math.pi / 2 if kind == 'columns' else 0),
        seed=int(rng.random() * 2**32),
    )


def sample_clutter(rng: np.random.Generator) -> Layer:
    """Draw an unlabeled shape without its position."""
    kind = choose(rng, CLUTTER)
    thickness = dict(triangle=(1.0, 1.0), bar=(0.12, 0.3), cross=(0.2, 0.35))[kind]
    return Layer(
        kind=kind,
        center=(0.0, 0.0),
        radius=between(rng, *((12, 30) if kind == 'bar' else (6, 16))),
        angle=between(rng, 0, 2 * math.pi),
        colors=sample_colors(rng),
        proportion=between(rng, *thickness),
        texture=choose(rng, ('plain', 'spots')),
        stripe=between(rng, *STRIPE),
        stripe_angle=0.0,
        seed=int(rng.random() * 2**32),
    )


def may_lie(layer: Layer, lamps: Lamps) -> bool:
    """Return whether the position of a labeled shape suits the lamps.

    A disc must be in the rows of one lamp and must not touch it. Some lamps are close:
    networks learn the cue from these first, and then to carry it further.
    """
    return layer.kind != 'disc' or (
        has_one_lamp(layer) and distance_to_lamps(layer, lamps) >= 0
    )


class Pile:
    """A scene under construction, in which every labeled shape stays visible.

    Args:
        scene: The scene, without layers.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.lamps = np.zeros((SIZE, SIZE), bool)
        self.lamps[lamps_window(scene.lamps)] = True
        self.seen: list[tuple[np.ndarray, int]] = []  # mask, minimum area

    def fits(self, layer: Layer, mask: np.ndarray) -> bool:
        """Return whether a layer can be put on top.

        It and the labeled shapes below it must stay visible.

        Args:
            layer: The layer.
            mask: The pixels that it covers, boolean `(SIZE, SIZE)`.
        """
        if layer.is_target and (
            not may_lie(layer, self.scene.lamps) or mask.sum() < MIN_PIXELS
        ):
            return False
        return all((below & ~mask).sum() >= least for below, least in self.seen)

    def add(self, rng: np.random.Generator, layer: Layer) -> bool:
        """Put a layer on top at a random position.

        Args:
            rng: The random generator.
            layer: The layer. Its position is ignored.

        Returns:
            Whether a position was found in `TRIES` attempts.
        """
        margin = 0.75 * layer.radius if layer.is_target else 0.0
        for _ in range(TRIES):
            layer = replace(
                layer,
                center=(
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
    """Draw a scene with at least three labeled shapes."""
    lamps = Lamps(choose(rng, SIDES), tuple(rng.random() < 0.5 for _ in range(LAMPS)))
    pile = Pile(Scene(sample_background(rng), lamps))
    targets, clutter = (
        int(between(rng, low, high + 1))
        for low, high in (TARGETS_IN_IMAGE, CLUTTER_IN_IMAGE)
    )
    placed = 0
    while targets + clutter > 0 or placed < TARGETS_IN_IMAGE[0]:
        # All orders are equally likely, so that clutter is above and below shapes.
        is_target = clutter == 0 or (rng.random() * (targets + clutter) < targets)
        layer = sample_target(rng) if is_target else sample_clutter(rng)
        done = pile.add(rng, layer)
        placed += is_target and done
        targets -= is_target and targets > 0
        clutter -= not is_target
    return pile.scene
