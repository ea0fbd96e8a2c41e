"""Masks and class folders: what is wrong with them is said before the start."""

import numpy as np
import pytest
from jobs import CLASSIFIER, SEGMENTOR, write_coco, write_config, write_labels
from mmengine.config import Config
from PIL import Image

from mmadaptor.datasets import CLASSES, SEGMENTATION_CLASSES, make_shapes
from mmadaptor.engine.checks.masks import mask_problem
from mmadaptor.engine.checks.preflight import check_test, check_training
from mmadaptor.engine.errors import InputError


@pytest.fixture
def root(tmp_path):
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    return root


@pytest.fixture
def seg(root, tmp_path):
    pytest.importorskip('mmseg')
    return Config.fromfile(
        write_config(tmp_path, SEGMENTOR, 'seg.py', data_root=str(root)))


@pytest.fixture
def cls(root, tmp_path):
    pytest.importorskip('mmpretrain')
    return Config.fromfile(
        write_config(tmp_path, CLASSIFIER, 'cls.py', data_root=str(root)))


def problems(cfg, check=check_training):
    with pytest.raises(InputError) as error:
        check(cfg)
    return str(error.value)


def save(path, array):
    Image.fromarray(array).save(path)


def test_good_configs_pass(seg, cls):
    for cfg in (seg, cls):
        check_training(cfg)
        check_test(cfg)


def test_a_mask_by_hand():
    mask = np.array([[0, 1, 255], [1, 0, 7]], np.uint8)
    assert mask_problem(mask, (2, 3), 8, {255}) == ''
    assert mask_problem(mask, None, None, {255}) == ''
    assert mask_problem(mask, (2, 3), 7, {255}).startswith(
        'has labels 7, but there are 7 classes: expected 0 to 6, or 255 for none')
    assert 'is 2 x 3 pixels, but its picture is 3 x 2' in mask_problem(
        mask, (3, 2), 8, {255})


@pytest.mark.parametrize('mask, says', [
    (np.full((48, 64), 5, np.uint8), 'has labels 5, but there are 2 classes'),
    (np.zeros((24, 32), np.uint8), 'is 24 x 32 pixels, but its picture is 48 x 64'),
    (np.zeros((48, 64, 3), np.uint8), 'has shape (48, 64, 3), a colour picture; expected one label'),
    (np.full((48, 64), 256, np.uint16), 'has 16 bits a pixel or more'),
])
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
        problems(seg))


def test_a_root_that_is_not_there(seg, cls):
    for cfg in (seg, cls):
        cfg.train_dataloader.dataset.data_root = 'none/here'
        assert 'missing: ' in problems(cfg)
        assert 'none/here/' in problems(cfg)


def test_a_suffix_that_finds_nothing(seg):
    seg.train_dataloader.dataset.img_suffix = '.jpg'
    assert 'val has no file named *.jpg' in problems(seg)


def test_masks_without_pictures_are_noted_and_stop_nothing(
        seg, root, monkeypatch):
    (root / 'val' / '2.png').unlink()
    said = []
    monkeypatch.setattr('mmadaptor.engine.checks.preflight.print_log',
                        lambda message, *_: said.append(message))
    check_training(seg)
    assert len(said) == 1
    assert '1 masks have no picture' in said[0] and ': 2' in said[0]


def test_a_list_of_pictures_that_are_not_there(seg, root):
    (root / 'list.txt').write_text('0\n9\n')
    seg.train_dataloader.dataset.ann_file = 'list.txt'
    text = problems(seg)
    assert 'val lacks 1 of the 2 pictures (first: 9.png)' in text
    assert 'masks lacks the masks of 1 of the 2 pictures' in text


def test_class_folders_without_pictures(cls, root):
    for path in (root / 'classes' / 'box').iterdir():
        path.rename(path.with_suffix('.txt'))
    text = problems(cls)
    assert 'has 1 of 2 class folders without a picture (first: box' in text
    assert '.png' in text


def test_folders_and_classes_that_differ(cls, root):
    (root / 'classes' / 'ring').mkdir()
    (root / 'classes' / 'ring' / '0.png').write_bytes(b'')
    assert 'has 3 class folders (box, disc, ring), but there are 2 classes' in (
        problems(cls))


def test_classes_in_another_order_than_their_folders(cls):
    """mmpretrain numbers the folders and would call each by the other's name."""
    cls.train_dataloader.dataset.metainfo = dict(classes=('disc', 'box'))
    assert 'numbered by the alphabet (box, disc)' in problems(cls)


def test_head_of_another_number_than_the_folders(cls):
    for dataset in (cls.train_dataloader.dataset, cls.test_dataloader.dataset):
        dataset.metainfo = None
    cls.model.head.num_classes = 7
    assert 'model.head.num_classes is 7' in problems(cls)
    assert 'has 2 classes' in problems(cls)


@pytest.mark.parametrize('text, says', [
    ('0.png 0\n1.png 2\n', 'has 1 labels outside of the 2 classes (first: line 2, 2)'),
    ('0.png 0\n9.png 1\n', 'lacks 1 of the 2 images'),
    ('0.png 0\n1.png\n', 'has 1 of 2 lines that are not "picture label" (first: line 2)'),
    ('', 'has 0 of 0 lines'),
])
def test_lists_of_pictures_and_labels(cls, root, text, says):
    (root / 'list.txt').write_text(text)
    cls.train_dataloader.dataset.update(ann_file='list.txt', data_prefix='val')
    assert says in problems(cls)


def test_shapes_pass_with_its_own_classes(seg, cls, tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=6, val=1, workers=1)
    seg.train_dataloader.dataset.update(
        data_root=str(root), metainfo=dict(classes=SEGMENTATION_CLASSES),
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'))
    seg.model.decode_head.num_classes = len(SEGMENTATION_CLASSES)
    cls.train_dataloader.dataset.update(
        data_root=str(root), metainfo=dict(classes=CLASSES),
        data_prefix='classes/train')
    cls.model.head.num_classes = len(CLASSES)
    for cfg in (seg, cls):
        check_training(cfg)
    seg.train_dataloader.dataset.metainfo.classes = SEGMENTATION_CLASSES[:-1]
    assert 'has labels 6, but there are 6 classes' in problems(seg)
