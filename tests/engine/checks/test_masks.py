# SPDX-License-Identifier: Apache-2.0
"""Masks: what is wrong with them is said before the start."""

import numpy as np
import pytest
from helpers.refusals import problems
from PIL import Image

from mmadaptor.engine.checks.masks import mask_problem
from mmadaptor.engine.checks.preflight import check_training


def save(path, array):
    Image.fromarray(array).save(path)


def test_a_mask_by_hand():
    mask = np.array([[0, 1, 255], [1, 0, 7]], np.uint8)
    assert mask_problem(mask, (2, 3), 8, {255}) == ''
    assert mask_problem(mask, None, None, {255}) == ''
    assert mask_problem(mask, (2, 3), 7, {255}).startswith(
        'has labels 7, but there are 7 classes: expected 0 to 6, or 255 for none'
    )
    assert 'is 2 x 3 pixels, but its picture is 3 x 2' in mask_problem(
        mask, (3, 2), 8, {255}
    )


@pytest.mark.parametrize(
    'mask, says',
    [
        (np.full((48, 64), 5, np.uint8), 'has labels 5, but there are 2 classes'),
        (np.zeros((24, 32), np.uint8), 'is 24 x 32 pixels, but its picture is 48 x 64'),
        (
            np.zeros((48, 64, 3), np.uint8),
            'has shape (48, 64, 3), a colour picture; expected one label',
        ),
        (np.full((48, 64), 256, np.uint16), 'has 16 bits a pixel or more'),
    ],
)
def test_masks_that_do_not_fit(seg, root, mask, says):
    save(root / 'masks' / '2.png', mask)
    text = problems(seg)
    assert f'{root}/masks/2.png {says}' in text
    assert 'named by train_dataloader.dataset.data_prefix.seg_map_path' in text


def test_a_truncated_mask_is_named(seg, root):
    path = root / 'masks' / '1.png'
    path.write_bytes(path.read_bytes()[:60])
    assert f'{path} or its picture' in problems(seg)


def test_zero_that_stands_for_no_class(seg, root):
    for dataset in (seg.train_dataloader.dataset, seg.test_dataloader.dataset):
        dataset.reduce_zero_label = True
    mask = np.zeros((48, 64), np.uint8)
    mask[:8] = 2
    for i in range(4):
        save(root / 'masks' / f'{i}.png', mask)
    check_training(seg)
    mask[:8] = 3
    save(root / 'masks' / '0.png', mask)
    assert 'has labels 3, but there are 3 classes' in problems(seg)


def test_half_of_the_masks_are_not_there(seg, root):
    (root / 'masks' / '0.png').unlink()
    (root / 'masks' / '3.png').unlink()
    assert 'masks lacks the masks of 2 of the 4 pictures (first: 0.png, 3.png)' in (
        problems(seg)
    )


def test_masks_without_pictures_are_noted_and_stop_nothing(seg, root, monkeypatch):
    (root / 'val' / '2.png').unlink()
    said = []
    monkeypatch.setattr(
        'mmadaptor.engine.checks.preflight.print_log',
        lambda message, *_: said.append(message),
    )
    check_training(seg)
    assert len(said) == 1
    assert '1 masks have no picture' in said[0] and ': 2' in said[0]
