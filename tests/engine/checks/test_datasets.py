# SPDX-License-Identifier: Apache-2.0
"""Pictures, classes and heads that fit one another, or are named."""

import pytest
from helpers.refusals import edit, problems

from mmadaptor.datasets import CLASSES, SEGMENTATION_CLASSES, make_shapes
from mmadaptor.engine.checks.preflight import check_test, check_training


def test_coco_itself_comes_with_its_address(det):
    for split in ('val', 'test'):
        det[f'{split}_dataloader'].dataset.update(data_root='none/coco', metainfo=None)
    assert 'https://cocodataset.org' in problems(det, check_test)


def test_missing_images_are_counted(det, root):
    (root / 'val' / '1.png').unlink()
    (root / 'val' / '3.png').unlink()
    assert 'lacks 2 of the 4 images' in problems(det)
    assert '(first: 1.png, 3.png)' in problems(det)


def test_images_in_subfolders_are_found(det, root):
    (root / 'val' / 'a').mkdir()
    (root / 'val' / '0.png').rename(root / 'val' / 'a' / '0.png')
    assert '(first: 0.png)' in problems(det)

    def move(content):
        content['images'][0]['file_name'] = 'a/0.png'

    edit(root / 'val.json', move)
    check_training(det)


def test_category_mismatch_shows_both_sides(det, root):
    det.train_dataloader.dataset.dataset.metainfo = dict(classes=('disc', 'ring'))
    text = problems(det)
    assert "has no category 'ring' (1 of the 2 in metainfo.classes" in text
    assert 'its categories are disc, box' in text


def test_default_classes_of_coco_do_not_fit_another_file(det):
    del det.test_dataloader.dataset['metainfo']
    assert '80 in metainfo.classes' in problems(det, check_test)


def test_left_out_categories_are_noted_and_stop_nothing(det, monkeypatch):
    det.val_dataloader.dataset.metainfo = dict(classes=('disc',))
    det.train_dataloader.dataset.dataset.metainfo = dict(classes=('disc',))
    det.model.bbox_head.num_classes = 1
    said = []
    monkeypatch.setattr(
        'mmadaptor.engine.checks.preflight.print_log',
        lambda message, *_: said.append(message),
    )
    check_training(det)
    assert len(said) == 2
    assert '1 categories are not in metainfo.classes' in said[0]


def test_head_of_another_number_of_classes(det):
    det.model.bbox_head.num_classes = 80
    text = problems(det)
    assert 'model.bbox_head.num_classes is 80' in text
    assert 'train_dataloader.dataset.dataset has 2 classes' in text


@pytest.mark.parametrize(
    'name, value, least',
    [('batch_size', 0, 1), ('batch_size', 2.5, 1), ('num_workers', -1, 0)],
)
def test_numbers_of_a_loader(det, name, value, least):
    det.train_dataloader[name] = value
    assert (
        f'train_dataloader.{name} must be a whole number of {least} or more, '
        f'got {value}'
    ) in problems(det)


def test_a_root_that_is_not_there(seg, cls):
    for cfg in (seg, cls):
        cfg.train_dataloader.dataset.data_root = 'none/here'
        assert 'missing: ' in problems(cfg)
        assert 'none/here/' in problems(cfg)


def test_a_suffix_that_finds_nothing(seg):
    seg.train_dataloader.dataset.img_suffix = '.jpg'
    assert 'val has no file named *.jpg' in problems(seg)


def test_a_list_of_pictures_that_are_not_there(seg, root):
    (root / 'list.txt').write_text('0\n9\n')
    seg.train_dataloader.dataset.ann_file = 'list.txt'
    text = problems(seg)
    assert 'val lacks 1 of the 2 pictures (first: 9.png)' in text
    assert 'masks lacks the masks of 1 of the 2 pictures' in text


def test_shapes_pass_with_its_own_classes(seg, cls, tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=6, val=1, workers=1)
    seg.train_dataloader.dataset.update(
        data_root=str(root),
        metainfo=dict(classes=SEGMENTATION_CLASSES),
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
    )
    seg.model.decode_head.num_classes = len(SEGMENTATION_CLASSES)
    cls.train_dataloader.dataset.update(
        data_root=str(root), metainfo=dict(classes=CLASSES), data_prefix='classes/train'
    )
    cls.model.head.num_classes = len(CLASSES)
    for cfg in (seg, cls):
        check_training(cfg)
    seg.train_dataloader.dataset.metainfo.classes = SEGMENTATION_CLASSES[:-1]
    assert 'has labels 6, but there are 6 classes' in problems(seg)
