# SPDX-License-Identifier: Apache-2.0
"""Test that the cue of a disc is the lamp at one corner, and is never covered."""

import numpy as np
import pytest

pytest.importorskip('mmseg')

from studies import corners


@pytest.mark.parametrize('decides, down, right', [(0, -1, -1), (3, 1, 1), (1, -1, 1)])
@pytest.mark.parametrize('number', range(4))
def test_one_lamp_decides(number, decides, down, right):
    picture, mask = corners.draw(np.random.default_rng(number), decides)
    again, _ = corners.draw(np.random.default_rng(number))
    assert np.array_equal(picture, again)
    rng = np.random.default_rng(number)
    corners.sample_background(rng)
    discs = corners.sample_discs(rng)
    assert 1 <= len(discs) <= 4
    seen = set()
    for x, y in discs:
        cue = picture[round(y + down * corners.REACH), round(x + right * corners.REACH)]
        seen.add(mask[round(y), round(x)])
        assert corners.CLASSES[mask[round(y), round(x)]] == (
            'disc_on' if cue[0] > 200 else 'disc_off'
        )
    assert seen | {0} == set(np.unique(mask))
    area = np.pi * corners.DISC_RADIUS**2
    assert abs((mask > 0).sum() - area * len(discs)) < 8 * len(discs)


def test_training_and_validation_share_no_picture():
    train, val = (
        corners.Corners(
            pictures=3, first=first, pipeline=[dict(type='mmseg.DrawCorners')]
        )
        for first in (0, 3)
    )
    samples = [s for part in (train, val) for s in (part[i] for i in range(3))]
    assert len({s['img'].tobytes() for s in samples}) == 6
    assert samples[0]['img'].shape == (128, 128, 3)
    assert samples[0]['gt_seg_map'].shape == samples[0]['img_shape'] == (128, 128)


def test_a_picture_in_a_file_is_read_as_it_was_drawn(tmp_path, monkeypatch):
    """`tools/visualize_memory.py` takes such a file."""
    monkeypatch.setattr('sys.argv', ['corners', '3', str(tmp_path / '3.png')])
    corners.main()
    drawn = corners.DrawCorners()(dict(number=3, decides=0))
    read = corners.DrawCorners()(dict(img_path=str(tmp_path / '3.png')))
    assert np.array_equal(read['img'], drawn['img'])
    assert read['img_shape'] == drawn['img_shape']
