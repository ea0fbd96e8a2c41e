# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from helpers.scenes import discs, lamp_pixels, picture, scenes, switched

from mmadaptor.datasets.scene import (
    LAMP_HEIGHT,
    LAMPS,
    Lamps,
    layer_mask,
    shape_distance,
    visible_masks,
)


def test_the_lamp_in_its_rows_alone_decides_the_class_of_a_disc():
    scene = next(s for s in scenes() if discs(s))
    disc = discs(scene)[0]
    rows = np.nonzero(layer_mask(disc).any(1))[0] // LAMP_HEIGHT
    assert len(set(rows)) == 1
    for lamp in range(LAMPS):
        other = switched(scene, lamp)
        assert (other.label(disc) != scene.label(disc)) == (lamp == rows[0])
        differs = (picture(scene) != picture(other)).any(-1)
        assert differs.any()
        assert not (differs & ~lamp_pixels(scene.lamps)).any()


@pytest.mark.parametrize('kind, points', [('star5', 5), ('star6', 6)])
def test_stars_have_their_points(kind, points):
    layer = next(
        layer for scene in scenes() for layer in scene.layers if layer.kind == kind
    )
    angle = np.arange(720) * np.pi / 360
    reach = 0.8 * layer.radius  # between the notches and the points
    ring = shape_distance(layer, reach * np.cos(angle), reach * np.sin(angle)) < 0
    assert (ring & ~np.roll(ring, 1)).sum() == points


def test_visible_masks_of_a_pile():
    scene = scenes(1)[0]
    low = replace(
        scene.layers[0], kind='columns', center=(90.0, 80.0), radius=20.0, angle=0.0
    )
    high = replace(low, center=(106.0, 80.0))
    pile = replace(scene, layers=[low, high], lamps=Lamps('right', (True,) * LAMPS))
    below, above = visible_masks(pile)
    # Squares of 31 pixels a side. The lower covers columns 75 to 105 and the
    # upper 91 to 121, of which the lamps hide those from 112.
    assert above.sum() == 21 * 31
    assert below.sum() == 16 * 31
