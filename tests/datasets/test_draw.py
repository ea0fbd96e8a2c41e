# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from helpers.scenes import lamp_pixels, picture, scenes

from mmadaptor.datasets.scene import (
    LAMP_HEIGHT,
    LAMP_WIDTH,
    LAMPS,
    SIDES,
    Lamps,
    lamps_window,
)

KNOWN_SUMS = [7022873, 6031749, 6435593, 5963190]


@pytest.mark.parametrize('side', SIDES)
def test_lamps_fill_their_side(side):
    lamps = Lamps(side, (True, False) * (LAMPS // 2))
    pixels = lamp_pixels(lamps)
    pixels = pixels if side == 'left' else pixels[:, ::-1]
    assert pixels[:, :LAMP_WIDTH].all()
    assert not pixels[:, LAMP_WIDTH:].any()
    image = picture(replace(scenes(1)[0], lamps=lamps)).astype(int)
    column = image[lamps_window(lamps)]
    for lamp, is_lit in enumerate(lamps.lit):
        top = lamp * LAMP_HEIGHT
        core = column[top + 1 : top + LAMP_HEIGHT - 1]
        assert (core.mean() > 150) == is_lit


def test_stripes_run_along_rows_and_along_columns():
    for kind, across in (('rows', 0), ('columns', 1)):
        layer = next(
            layer for scene in scenes() for layer in scene.layers if layer.kind == kind
        )
        layer = replace(
            layer,
            center=(64.0, 64.0),
            radius=26.0,
            angle=0.0,
            stripe=2.0,
            stripe_angle=0.0 if kind == 'rows' else np.pi / 2,
            colors=((255, 255, 255), (0, 0, 0)),
        )
        scene = replace(scenes(1)[0], layers=[layer])
        patch = picture(scene)[54:74, 54:74].astype(int)
        changes = [abs(np.diff(patch, axis=axis)).mean() for axis in (0, 1)]
        assert changes[across] > 100
        assert changes[1 - across] < 10


def test_known_pixels():
    """Images are the same on every machine and with every version."""
    found = [int(picture(scene).astype(np.int64).sum()) for scene in scenes(4)]
    assert found == KNOWN_SUMS
