"""The cue of a disc is at its upper left corner, and nothing covers it."""

import numpy as np
import pytest

pytest.importorskip('mmseg')

from benchmarks.study import corners


@pytest.mark.parametrize('number', range(8))
def test_the_lamp_above_on_the_left_decides(number):
    picture, mask = corners.draw(np.random.default_rng(number))
    again, _ = corners.draw(np.random.default_rng(number))
    assert np.array_equal(picture, again)
    rng = np.random.default_rng(number)
    corners.sample_background(rng)
    discs = corners.sample_discs(rng)
    assert 1 <= len(discs) <= 4
    seen = set()
    for x, y in discs:
        cue = picture[round(y - corners.REACH), round(x - corners.REACH)]
        seen.add(mask[round(y), round(x)])
        assert corners.CLASSES[mask[round(y), round(x)]] == (
            'disc_on' if cue[0] > 200 else 'disc_off')
    assert seen | {0} == set(np.unique(mask))
    area = np.pi * corners.DISC_RADIUS**2
    assert abs((mask > 0).sum() - area * len(discs)) < 8 * len(discs)


def test_training_and_validation_share_no_picture():
    train, val = (corners.Corners(pictures=3, first=first, pipeline=[dict(type='mmseg.DrawCorners')])
                  for first in (0, 3))
    samples = [s for part in (train, val) for s in (part[i] for i in range(3))]
    assert len({s['img'].tobytes() for s in samples}) == 6
    assert samples[0]['img'].shape == (128, 128, 3)
    assert samples[0]['gt_seg_map'].shape == samples[0]['img_shape'] == (128, 128)


def test_a_picture_in_a_file_is_read_as_it_was_drawn(tmp_path, monkeypatch):
    """So that tools/visualize_memory.py can be given one."""
    monkeypatch.setattr('sys.argv', ['corners', '3', str(tmp_path / '3.png')])
    corners.main()
    drawn = corners.DrawCorners()(dict(number=3))
    read = corners.DrawCorners()(dict(img_path=str(tmp_path / '3.png')))
    assert np.array_equal(read['img'], drawn['img'])
    assert read['img_shape'] == drawn['img_shape']
