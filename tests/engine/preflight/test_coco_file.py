# SPDX-License-Identifier: Apache-2.0
"""COCO's annotation files: what is wrong with them is said before the start."""

import pytest
from helpers.refusals import build, edit, problems


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
        (
            dict(image_id='0'),
            "image_id is not in the file (first: annotation 0, image_id '0'); the same "
            'image_id is there as another type',
        ),
        (dict(category_id='1'), 'the same category_id is there as another type'),
        (dict(category_id=None), 'category_id is not in the file'),
        (dict(id=1), 'of one id'),
    ],
)
def test_annotations_that_lead_nowhere(det, root, change, says):
    edit(root / 'val.json', lambda content: content['annotations'][0].update(change))
    assert says in problems(det)


def test_annotations_of_images_that_are_not_listed(det, root):
    """They are left out where a part of the images was cut out of a file; not all."""
    edit(root / 'val.json', lambda content: content['images'].pop())
    (note,) = [note for note in build(det).notes if 'image_id' in note]
    assert f'{root}/val.json has 1 annotations whose image_id is not in' in note
    edit(root / 'val.json', lambda c: [a.update(image_id=9) for a in c['annotations']])
    assert 'has 4 annotations whose image_id is not in the file' in problems(det)


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


@pytest.mark.parametrize(
    'categories, says',
    [
        ('disc box', None),
        ('disc disc', "several categories have the name 'disc' (ids 0, 1), and mmdet"),
        ('ring disc ring box', None),
        ('disc', 'has no category box (1 of the 2'),
        (
            'disc Box',
            'has no category box (1 of the 2 in metainfo.classes are missing)',
        ),
        ('box ring disc', 'in another order than metainfo.classes, and mmdet numbers'),
    ],
)
def test_names_of_categories(det, root, categories, says):
    names = categories.split() if isinstance(categories, str) else categories

    def change(content):
        content['categories'] = [dict(id=i, name=n) for i, n in enumerate(names)]
        for annotation in content['annotations']:
            annotation['category_id'] = names.index('disc')

    edit(root / 'val.json', change)
    if says is None:
        build(det)
    else:
        assert says in problems(det)


@pytest.mark.parametrize('names', [('disc', 'box'), ('disc', 'disc')])
def test_several_categories_of_one_id(det, root, names):
    """pycocotools would call all objects by the last name."""

    def change(content):
        content['categories'] = [dict(id=1, name=name) for name in names]
        for annotation in content['annotations']:
            annotation['category_id'] = 1

    edit(root / 'val.json', change)
    text = problems(det)
    assert f'several categories have the id 1 ({", ".join(names)})' in text


@pytest.mark.parametrize(
    'classes, says',
    [
        ('disc', "metainfo.classes is the text 'disc'"),
        (('disc', 'box', 'disc'), "metainfo.classes names 'disc' more than once"),
    ],
)
def test_classes_that_are_no_list_of_names(det, classes, says):
    det.val_dataloader.dataset.metainfo = dict(classes=classes)
    assert says in problems(det)


def test_the_last_classes_may_have_no_category_in_a_training(det, root):
    """Their labels are right, but an evaluation ends as soon as they are predicted."""

    def change(content):
        content['categories'].pop()
        for annotation in content['annotations']:
            annotation['category_id'] = 1

    edit(root / 'train.json', change)
    assert f'{root}/train.json has no category box; no object is of it' in (
        build(det).notes
    )
    edit(root / 'train.json', lambda c: c['categories'].append(dict(id=9, name='bix')))
    assert 'train.json has no category box (1 of the 2 in' in problems(det)


def test_validation_in_another_order_than_training(det, root):
    """Each file fits its own metainfo.classes, and all objects get wrong names."""
    edit(root / 'val.json', lambda content: content['categories'].reverse())
    det.val_dataloader.dataset.metainfo = dict(classes=('box', 'disc'))
    text = problems(det)
    assert '1 problem found' in text and 'The same classes have other labels' in text
    assert 'val_dataloader.dataset has the classes box, disc, and train_' in text


@pytest.mark.parametrize(
    'change, says',
    [
        (lambda c: c['images'][1].update(id=0), 'has several images of one id (0)'),
        (
            lambda c: c['images'][1].update(id='x'),
            'ids of its images are of several ty',
        ),
        (
            lambda c: c['images'][1].update(id=2**63 + 5),
            'its images are of several typ',
        ),
        (
            lambda c: c['categories'][1].update(id='4'),
            'ids of its categories are of se',
        ),
        (lambda c: c['images'][1].update(height=0), '1 images have no size of two pos'),
        (lambda c: c['images'][1].update(width=-64), '1 images have no size of two po'),
    ],
)
def test_ids_and_sizes_that_are_misread(det, root, change, says):
    edit(root / 'val.json', change)
    assert says in problems(det)


def test_an_image_that_is_listed_twice(det, root):
    edit(root / 'train.json', lambda c: c['images'].append(c['images'][0]))
    build(det)  # the same again changes nothing
    edit(root / 'train.json', lambda c: c['images'][1].update(file_name='0.png'))
    (note,) = [note for note in build(det).notes if 'more than once' in note]
    assert 'train.json lists 1 images more than once' in note and '0.png' in note


def test_a_filter_that_leaves_no_image(det):
    det.train_dataloader.dataset.dataset.filter_cfg = dict(min_size=100)
    text = problems(det)
    assert 'train.json: no sample is left. Check filter_cfg' in text


def test_left_out_categories_are_noted_and_stop_nothing(det):
    det.val_dataloader.dataset.metainfo = dict(classes=('disc',))
    det.train_dataloader.dataset.dataset.metainfo = dict(classes=('disc',))
    det.model.bbox_head.num_classes = 1
    notes = [note for note in build(det).notes if 'metainfo' in note]
    assert len(notes) == 2
    assert '1 categories are not in metainfo.classes' in notes[0]
