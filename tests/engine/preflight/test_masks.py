# SPDX-License-Identifier: Apache-2.0
"""Masks: what is wrong with them is said before the start, or as they are loaded."""

import numpy as np
import pytest
from helpers.refusals import build, problems
from PIL import Image
from torch.utils.data import DataLoader

from mmadaptor.datasets.checked_pipeline import mask_problem
from mmadaptor.engine.command_line import run
from mmadaptor.errors import DamagedFileError, InputError


def save(path, array):
    Image.fromarray(array).save(path)


def test_a_mask_by_hand():
    mask = np.array([[0, 1, 255], [1, 0, 7]], np.uint8)
    assert mask_problem(mask, (2, 3), 8, {255}) == ''
    assert mask_problem(mask.astype(np.int64), None, 8, {255}) == ''
    assert mask_problem(mask, (2, 3), 7, {255}) == (
        'has labels 7, and there are 7 classes: expected 0 to 6, or 255 for none; '
        'labels that count from 1 need reduce_zero_label=True'
    )
    assert mask_problem(mask, (2, 3), 1, {255}) == (
        'has labels 1, 7, and there are 1 classes: expected 0 to 0, or 255 for none'
    )
    assert 'has 2 x 3 pixels, its image has 3 x 2' in mask_problem(
        mask, (3, 2), 8, {255}
    )


@pytest.mark.parametrize(
    'mask, says',
    [
        (np.full((48, 64), 5, np.uint8), 'has labels 5, and there are 2 classes'),
        (np.zeros((24, 32), np.uint8), 'has 24 x 32 pixels, its image has 48 x 64'),
        (np.zeros((48, 64, 3), np.uint8), 'has shape (48, 64, 3), as a color image'),
        (
            np.full((48, 64), 257, np.uint16),
            'has labels 257, and LoadAnnotations keeps 8 bits: 257 becomes 1',
        ),
    ],
)
def test_masks_that_do_not_fit(seg, root, mask, says):
    save(root / 'masks' / '2.png', mask)
    text = problems(seg)
    assert f'{root}/masks/2.png {says}' in text
    assert 'named by train_dataloader.dataset' in text


def test_a_truncated_mask_is_named(seg, root):
    path = root / 'masks' / '1.png'
    path.write_bytes(path.read_bytes()[:60])
    assert f'{root}/val/1.png or its labels {path} cannot be read' in problems(seg)


def test_zero_that_stands_for_no_class(seg, root):
    for dataset in (seg.train_dataloader.dataset, seg.test_dataloader.dataset):
        dataset.reduce_zero_label = True
    mask = np.zeros((48, 64), np.uint8)
    mask[:8] = 2
    for i in range(4):
        save(root / 'masks' / f'{i}.png', mask)
    build(seg)
    mask[:8] = 3
    save(root / 'masks' / '0.png', mask)
    assert 'has labels 2, and there are 2 classes' in problems(seg)


def test_a_class_without_a_pixel_is_noted(seg, root):
    """Binary masks of 0 and 255: 255 is ignored, and class 1 never occurs."""
    assert build(seg).notes == []
    for path in (root / 'masks').iterdir():
        save(path, np.asarray(Image.open(path)) * 255)
    (note,) = build(seg).notes
    assert note == (
        'train_dataloader.dataset: 1 of 2 classes, such as box, have no pixel in 200 '
        'masks or all of them. Label 255, which occurs, is ignored: it is no class'
    )


def test_labels_of_sixteen_bits_are_read_rightly_below_256(seg, root):
    for path in (root / 'masks').iterdir():
        mask = np.asarray(Image.open(path)).astype(np.uint16)
        save(path, mask * 254 + 1)  # 1 and 255
    assert 'such as ground' in build(seg).notes[0]
    save(root / 'masks' / '1.png', mask * 1000)
    assert '1.png has labels 1000, and LoadAnnotations' in problems(seg)


def test_labels_of_float_are_read_rightly_if_whole(seg, root):
    seg.train_dataloader.dataset.seg_map_suffix = '.tif'
    for path in (root / 'masks').iterdir():
        mask = np.asarray(Image.open(path)).astype(np.float32)
        save(path.with_suffix('.tif'), mask)
    assert build(seg).notes == []
    save(root / 'masks' / '2.tif', mask * 1.5)
    assert '2.tif has labels 1.5, and LoadAnnotations keeps 8 bits: 1.5 becomes 1' in (
        problems(seg)
    )


def test_the_label_that_the_heads_ignore(seg, root):
    save(root / 'masks' / '0.png', np.full((48, 64), 7, np.uint8))
    assert 'has labels 7, and there are 2 classes' in problems(seg)
    seg.model.decode_head.ignore_index = 7
    build(seg)
    save(root / 'masks' / '0.png', np.full((48, 64), 255, np.uint8))
    assert 'has labels 255, and there are 2 classes: expected 0 to 1, or 7' in (
        problems(seg)
    )


def test_zero_that_is_a_class_and_is_ignored(seg):
    """Masks of 0 and 1 whose config inherits `reduce_zero_label` from ADE20K's."""
    seg.train_dataloader.dataset.reduce_zero_label = True
    (note,) = build(seg).notes
    assert note == (
        'train_dataloader.dataset: 1 of 2 classes, such as box, have no pixel in 200 '
        'masks or all of them. Label 0 is ignored (reduce_zero_label), and 1 is the '
        'first class'
    )


def test_half_of_the_masks_are_not_there(seg, root):
    (root / 'masks' / '0.png').unlink()
    (root / 'masks' / '3.png').unlink()
    assert f'2 of 4 files do not exist (first: {root}/masks/0.png, ' in problems(seg)


def test_masks_without_images_are_noted_and_stop_nothing(seg, root):
    (root / 'val' / '2.png').unlink()
    assert build(seg).notes == [
        'train_dataloader.dataset: 1 masks have no image and are left out: 2.png'
    ]
    (root / 'list.txt').write_text('0\n1\n')  # a part of them is asked for
    seg.train_dataloader.dataset.ann_file = 'list.txt'
    assert build(seg).notes == []
    seg.train_dataloader.dataset.update(ann_file='', indices=2)
    assert build(seg).notes == []


def test_masks_are_checked_as_they_are_loaded(seg, root):
    """Of a long list only some are loaded before the start."""
    dataset = build(seg).train_dataloader.dataset
    right = np.zeros((48, 64), np.uint8)
    right[4:9] = 255
    right[9:] = 1

    def load(mask):
        save(root / 'masks' / '0.png', mask)
        return dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()

    np.testing.assert_array_equal(load(right), right)
    with pytest.raises(InputError, match=r'0.png has labels 2, and.*val/0.png'):
        load(right + 1)
    with pytest.raises(InputError, match='has 24 x 32 pixels, its image has 48 x 64'):
        load(right[::2, ::2])
    (root / 'masks' / '0.png').write_bytes(b'')
    with pytest.raises(DamagedFileError, match='0.png cannot be read'):
        dataset[0]


def test_other_transforms_name_the_sample(seg, root):
    dataset = build(seg).train_dataloader.dataset

    class Fails:
        def __call__(self, results):
            raise ValueError('a bug')

    dataset.pipeline.transforms.append(Fails())
    with pytest.raises(RuntimeError, match=r'val/0\.png: Fails: a bug') as error:
        dataset[0]
    assert isinstance(error.value.__cause__, ValueError)


@pytest.mark.parametrize('kept', [0.0, 0.6])
def test_damaged_images_are_named_as_they_are_loaded(cls, root, kept):
    dataset = build(cls).train_dataloader.dataset
    path = root / 'classes' / 'box' / '1.png'
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DamagedFileError, match=r'box/1\.png cannot be read'):
        [dataset[i] for i in range(len(dataset))]


def test_a_damaged_image_ends_a_training_by_its_name(cls, root):
    """Also in a data worker, whose traceback would hide it."""
    dataset = build(cls).train_dataloader.dataset
    path = root / 'classes' / 'disc' / '2.png'
    path.write_bytes(path.read_bytes()[:300])
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=list)
    with pytest.raises(SystemExit) as ended:
        run(lambda: list(loader))
    first, *more = ended.value.code.strip().splitlines()
    assert first.startswith(f'error: {path} cannot be read: LoadImageFromFile: ')
    assert not any('Traceback' in line for line in more)
