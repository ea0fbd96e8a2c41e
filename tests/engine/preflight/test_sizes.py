# SPDX-License-Identifier: Apache-2.0
"""Sizes in a COCO file are those of the images as the config's own loader loads them."""

import json

import pytest
from helpers.refusals import edit
from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from mmadaptor.engine.preflight.content import Part
from mmadaptor.engine.preflight.datasets import build_lazily
from mmadaptor.engine.preflight.report import Report
from mmadaptor.engine.preflight.sizes import odd_sizes

MANY = 50  # more than are loaded before the start
TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.fixture
def check(det, root):
    """Checks a file of many images, of which one is changed on the disk."""
    cfg = det.train_dataloader.dataset.dataset

    def list_them(content):
        image, annotation = content['images'][0], content['annotations'][0]
        content['images'] = [
            dict(image, id=i, file_name=f'{i}.jpg') for i in range(MANY)
        ]
        content['annotations'] = [
            dict(annotation, id=i, image_id=i) for i in range(MANY)
        ]

    edit(root / 'train.json', list_them)
    whole = Image.open(root / 'train' / '0.png')
    for i in range(MANY):
        whole.save(root / 'train' / f'{i}.jpg')

    def check(*changed, change=lambda content: None, **loader):
        edit(root / 'train.json', change)
        for name, image, options in changed:
            image.save(root / 'train' / name, **options)
        cfg.pipeline[0].update(loader)
        init_default_scope('mmdet')
        report, dataset = Report(), build_lazily(cfg)
        part = Part('train', dataset, report, nn.Module())
        part.initialize()
        part.check_content()
        check.notes = report.notes
        return report.text('Training'), dataset

    check.whole = whole
    return check


def test_images_as_the_file_says(check):
    text, dataset = check()
    assert text == '' and odd_sizes(dataset) == []


def test_one_photo_of_many_that_is_rotated(check, root):
    """Its labels are of the stored bitmap, and OpenCV rotates it."""
    text, dataset = check(('7.jpg', check.whole, dict(exif=TURNED)))
    assert odd_sizes(dataset) == [7]
    assert '1 problem found' in text
    assert f'{root}/train/7.jpg has 64 x 48 pixels as it is loaded' in text
    assert 'train.json says 48 x 64 (height x width)' in text and 'EXIF' in text


def test_a_loader_that_rotates_nothing(check):
    text, dataset = check(
        ('7.jpg', check.whole, dict(exif=TURNED)), imdecode_backend='pillow',
        color_type='unchanged',
    )  # fmt: skip
    assert odd_sizes(dataset) == [7] and text == ''


def test_labels_of_the_rotated_photo(check):
    """The file's size is the loaded one, which is not the stored one."""
    stored = check.whole.transpose(Image.Transpose.ROTATE_90)
    text, dataset = check(('7.jpg', stored, dict(exif=TURNED)))
    assert odd_sizes(dataset) == [7] and text == ''


def test_one_image_of_many_that_was_resized(check, root):
    text, _ = check(('31.jpg', check.whole.resize((32, 24)), {}))
    assert f'{root}/train/31.jpg has 24 x 32 pixels as it is loaded' in text
    assert 'the box [16, 8, 40, 32] is outside of it' in text


def sized(height, width, **annotation):
    def change(content):
        for image in content['images']:
            image.update(height=height, width=width)
        for entry in content['annotations']:
            entry.update(annotation)

    return change


def test_sizes_that_stand_for_others(check, root):
    """mmdet reads the boxes, which are inside of the image, and trains with them."""
    text, dataset = check(change=sized(1000, 1000))
    assert text == '' and odd_sizes(dataset) == [0]
    (note,) = [note for note in check.notes if 'sizes' in note]
    assert note.startswith('train: sizes in the annotations are not used: ')
    assert '0.jpg has 48 x 64 pixels as it is loaded, but' in note
    # Height and width in the place of each other, and no EXIF data.
    assert check(change=sized(64, 48))[0] == ''


def test_sizes_of_masks_are_used(check, det):
    segmentation = [[16, 8, 40, 8, 40, 32, 16, 32]]
    change = sized(1000, 1000, segmentation=segmentation)
    assert check(change=change)[0] == ''  # only boxes are loaded
    det.train_dataloader.dataset.dataset.pipeline[1].with_mask = True
    text, _ = check(change=change)
    assert 'says 1000 x 1000 (height x width), and its objects have masks' in text


def test_the_one_image_whose_box_is_outside_is_found(check):
    """All sizes stand for others; one image was cut besides."""
    cut = ('31.jpg', check.whole.crop((0, 0, 30, 48)), {})
    text, dataset = check(cut, change=sized(1000, 1000))
    assert odd_sizes(dataset) == [0, 31]
    assert '31.jpg has 48 x 30 pixels as it is loaded' in text and 'outside' in text


def test_one_image_of_each_kind_is_loaded(check):
    stored = check.whole.transpose(Image.Transpose.ROTATE_90)
    changed = [(f'{i}.jpg', check.whole, dict(exif=TURNED)) for i in range(5, 9)]
    changed += [(f'{i}.jpg', stored, {}) for i in range(11, 14)]
    text, dataset = check(*changed)
    assert odd_sizes(dataset) == [5, 11]
    assert '1 problem found' in text  # often of all files: the first one is enough


def test_what_pillow_cannot_open_is_left_to_the_loader(check, root):
    _, dataset = check()
    (root / 'train' / '7.jpg').write_bytes(b'no image')
    (root / 'train' / '8.jpg').unlink()
    assert odd_sizes(dataset) == []


def test_sizes_are_read_of_no_file_that_has_none(check, root, monkeypatch):
    _, dataset = check()
    monkeypatch.setattr('mmadaptor.engine.preflight.sizes._header', pytest.fail)
    content = json.loads((root / 'train.json').read_text())
    assert len(dataset) == len(content['images']) == MANY
    dataset.get_data_info = lambda i: dict(img_path=str(root / 'train' / '0.jpg'))
    assert odd_sizes(dataset) == []
