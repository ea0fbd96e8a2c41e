# SPDX-License-Identifier: Apache-2.0
import numpy as np
from helpers.scenes import discs, lamp_pixels, scenes

from mmadaptor.datasets.sampling import MIN_PIXELS
from mmadaptor.datasets.scene import LAMP_HEIGHT, layer_mask, visible_masks


def test_discs_are_near_and_far_from_the_lamps_and_in_the_rows_of_one():
    distances = []
    for scene in scenes():
        column = np.nonzero(lamp_pixels(scene.lamps)[0])[0]
        for disc in discs(scene):
            rows, columns = np.nonzero(layer_mask(disc))
            distances.append(abs(columns[:, None] - column).min())
            assert rows.min() // LAMP_HEIGHT == rows.max() // LAMP_HEIGHT
    assert len(distances) > 60
    near, median, far = np.quantile(distances, (0.1, 0.5, 0.9))
    assert min(distances) >= 1 and near < 12 and 30 < median < 60 and far > 70


def test_half_of_the_discs_are_on_at_any_place_and_of_any_look():
    found = [
        (scene.label(disc) == 'disc_on', disc.center[0], disc.radius)
        for scene in scenes(400)
        for disc in discs(scene)
    ]
    is_on, *properties = (np.array(values) for values in zip(*found, strict=True))
    assert abs(is_on.mean() - 0.5) < 0.05
    for values in properties:
        assert abs(np.corrcoef(is_on, values)[0, 1]) < 0.08


def test_three_to_six_shapes_in_sight():
    for scene in scenes():
        visible = [
            mask.sum()
            for layer, mask in zip(scene.layers, visible_masks(scene))
            if layer.is_target
        ]
        assert 3 <= len(visible) <= 6
        assert min(visible) >= MIN_PIXELS
