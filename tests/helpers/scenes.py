# SPDX-License-Identifier: Apache-2.0
"""Scenes of the embedded dataset, and parts of them."""

from dataclasses import replace

import numpy as np

from mmadaptor.datasets import shapes
from mmadaptor.datasets.draw import draw, draw_background
from mmadaptor.datasets.scene import SIZE, Lamps, lamps_window


def scenes(count=40):
    return [shapes.make_scene(0, 'train', index) for index in range(count)]


def picture(scene):
    return draw(scene, draw_background(scene.background))


def lamp_pixels(lamps):
    pixels = np.zeros((SIZE, SIZE), bool)
    pixels[lamps_window(lamps)] = True
    return pixels


def discs(scene):
    return [layer for layer in scene.layers if layer.kind == 'disc']


def switched(scene, lamp):
    lit = list(scene.lamps.lit)
    lit[lamp] = not lit[lamp]
    return replace(scene, lamps=Lamps(scene.lamps.side, tuple(lit)))
