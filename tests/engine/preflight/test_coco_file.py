# SPDX-License-Identifier: Apache-2.0
"""COCO's annotation files: what is wrong with them is said before the start."""

import pytest
from helpers.refusals import build, edit, problems
from PIL import Image


@pytest.mark.parametrize('text', ['', '{"images": [', 'no JSON'])
def test_broken_json_is_named(det, root, text):
    (root / 'val.json').write_text(text)
    message = problems(det)
    assert f'{root / "val.json"} cannot be read: JSONDecodeError' in message
    assert 'named by val_dataloader.dataset' in message


@pytest.mark.parametrize(
    'change, says',
    [
        (dict(category_id=9), 'category_id is not in the file (first: annotation 0'),
        (dict(image_id=9), 'image_id is not in the file'),
        (dict(id=1), 'of one id'),
    ],
)
def test_annotations_that_lead_nowhere(det, root, change, says):
    edit(root / 'val.json', lambda content: content['annotations'][0].update(change))
    assert says in problems(det)


@pytest.mark.parametrize(
    'part, says',
    [
        ('categories', 'expected a list named categories, got null'),
        ('images', 'no sample is left'),
    ],
)
def test_a_part_that_is_not_there(det, root, part, says):
    edit(root / 'val.json', lambda content: content.pop(part))
    text = problems(det)
    assert f'{root / "val.json"}' in text and says in text


def test_an_entry_without_its_keys(det, root):
    edit(root / 'val.json', lambda content: content['images'][2].pop('width'))
    assert 'val.json: images[2] (id 2) has no width' in problems(det)


def test_categories_in_another_order_than_the_classes(det, root):
    """mmdet numbers them as the file does, so each would get the other's name."""
    edit(root / 'val.json', lambda content: content['categories'].reverse())
    text = problems(det)
    assert f'{root / "val.json"} lists its categories in another order' in text
    assert 'box, disc' in text


def test_sizes_that_are_not_those_of_the_loaded_image(det, root):
    """Labels on the stored bitmap of a photo that its EXIF data rotates."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(4):
        image = Image.open(root / 'train' / f'{i}.png')
        image.save(root / 'train' / f'{i}.jpg', exif=exif)

    def rename(content):
        for image in content['images']:
            image['file_name'] = f'{image["id"]}.jpg'

    edit(root / 'train.json', rename)
    text = problems(det)
    assert '0.jpg has 64 x 48 pixels as it is loaded' in text
    assert 'train.json says 48 x 64 (height x width)' in text and 'EXIF' in text


def test_a_filter_that_leaves_no_image(det):
    det.train_dataloader.dataset.dataset.filter_cfg = dict(min_size=100)
    text = problems(det)
    assert 'train.json: no sample is left. Check filter_cfg' in text


def test_left_out_categories_are_noted_and_stop_nothing(det):
    det.val_dataloader.dataset.metainfo = dict(classes=('disc',))
    det.train_dataloader.dataset.dataset.metainfo = dict(classes=('disc',))
    det.model.bbox_head.num_classes = 1
    notes = build(det).notes
    assert len(notes) == 2
    assert '1 categories are not in metainfo.classes' in notes[0]
