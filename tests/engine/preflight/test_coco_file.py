# SPDX-License-Identifier: Apache-2.0
"""COCO's annotation files: what is wrong with them is said before the start."""

import os

import pytest
from helpers.refusals import build, edit, problems


@pytest.mark.parametrize('text', ['', '{"images": [', 'no JSON'])
def test_broken_json_is_named(det, root, text):
    (root / 'val.json').write_text(text)
    message = problems(det)
    assert f'{root / "val.json"} cannot be read: JSONDecodeError' in message
    assert 'named by val_evaluator, val_dataloader.dataset' in message


@pytest.mark.parametrize(
    'change, says',
    [
        (
            dict(category_id=9),
            'their category_id is not in the file (first: annotation ',
        ),
        (dict(image_id='0'), "(first: annotation 0, image_id '0')"),
        (dict(category_id='1'), "(first: annotation 0, category_id '1')"),
    ],
)
def test_annotations_that_lead_nowhere_are_noted(det, root, change, says):
    edit(root / 'val.json', lambda content: content['annotations'][0].update(change))
    (note,) = [note for note in build(det).notes if 'left out' in note]
    assert f'{root}/val.json: 1 of 4 annotations are left out: their' in note
    assert says in note


def test_ids_that_are_there_twice(det, root):
    """Those of annotations are refused by mmdet, whose images have no other's."""
    edit(root / 'train.json', lambda c: c['images'].append(c['images'][0]))
    notes = build(det).notes  # the same again changes nothing
    edit(root / 'train.json', lambda c: c['images'][1].update(id=0))
    (note,) = [note for note in build(det).notes if 'the id of another' in note]
    assert f'{root}/train.json: 2 images have the id of another one' in note
    assert note not in notes
    edit(root / 'val.json', lambda c: c['annotations'][0].update(id=1))
    assert "val.json' are not unique!" in problems(det)


@pytest.mark.parametrize(
    'part, says',
    [
        ('categories', "cannot be read: KeyError: 'categories'"),
        ('images', 'no sample is left'),
    ],
)
def test_a_part_that_is_not_there(det, root, part, says):
    edit(root / 'val.json', lambda content: content.pop(part))
    text = problems(det)
    assert f'{root / "val.json"}' in text and says in text


@pytest.mark.parametrize(
    'part, field, says',
    [
        ('images', 'width', "train.json: 2.png cannot be read: KeyError: 'width'"),
        (
            'images',
            'file_name',
            "train.json: None cannot be read: KeyError: 'file_name'",
        ),
        ('images', 'id', "train.json cannot be read: KeyError: 'id'"),
        ('annotations', 'bbox', "train.json: 2.png cannot be read: KeyError: 'bbox'"),
        ('annotations', 'area', "train.json: 2.png cannot be read: KeyError: 'area'"),
        ('annotations', 'image_id', "train.json cannot be read: KeyError: 'image_id'"),
    ],
)
def test_an_entry_without_a_key_is_named_by_its_image(det, root, part, field, says):
    """And the rest of the report goes on."""
    edit(root / 'train.json', lambda content: content[part][2].pop(field))
    det.model.bbox_head.num_classes = 7
    text = problems(det)
    assert f'{root}/{says}' in text and 'model.bbox_head.num_classes is 7' in text


@pytest.mark.parametrize('content', ['null', '[]', '[' * 100_000 + ']' * 100_000])
def test_files_of_another_form(det, root, content):
    (root / 'train.json').write_text(content)
    assert f'{root}/train.json cannot be read: ' in problems(det)


def test_a_file_that_is_a_folder_or_a_pipe(det, root):
    """The metric reads it, too."""
    (root / 'val.json').unlink()
    (root / 'val.json').mkdir()
    (root / 'train.json').unlink()
    os.mkfifo(root / 'train.json')
    text = problems(det)
    assert f'{root}/train.json is a named pipe, not a regular file' in text
    assert f'{root}/val.json cannot be read: IsADirectoryError' in text
    (root / 'val.json').rmdir()
    os.mkfifo(root / 'val.json')
    text = problems(det)
    assert f'{root}/val.json is a named pipe, not a regular file' in text
    assert 'named by val_dataloader.dataset.ann_file, val_evaluator' in text


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
        ('disc disc', 'has no category box (1 of the 2'),
        ('ring disc ring box', None),
        ('disc', 'has no category box (1 of the 2'),
        (
            'disc Box',
            'has no category box (1 of the 2 in metainfo.classes are missing)',
        ),
        ('box ring disc', 'in another order than metainfo.classes (disc, box), and'),
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


def test_names_that_are_numbers(det, root):
    """For pycocotools 1 is not '1': mmdet would find no object."""

    def change(content):
        for number, category in enumerate(content['categories']):
            category['name'] = number

    for split in ('train', 'val'):
        edit(root / f'{split}.json', change)
    datasets = det.train_dataloader.dataset.dataset, det.val_dataloader.dataset
    for dataset in datasets:
        dataset.metainfo = dict(classes=(0, 1))
    build(det)
    for dataset in datasets:
        dataset.metainfo = dict(classes=('0', '1'))
    text = problems(det)
    assert "train.json has no category '0', '1' (2 of the 2 in metainfo.classes" in text
    assert 'its categories are 0, 1. Every class' in text


@pytest.mark.parametrize(
    'names, lacking', [(('disc', 'box'), 'disc'), (('disc', 'disc'), 'box')]
)
def test_several_categories_of_one_id(det, root, names, lacking):
    """pycocotools would call all objects by the last name."""

    def change(content):
        content['categories'] = [dict(id=1, name=name) for name in names]
        for annotation in content['annotations']:
            annotation['category_id'] = 1

    edit(root / 'val.json', change)
    assert f'val.json has no category {lacking} (1 of the 2 in' in problems(det)


@pytest.mark.parametrize(
    'classes, says',
    [
        ('disc', 'num_classes is 2, but val_dataloader.dataset has 1 classes'),
        (('disc', 'box', 'disc'), 'another order than metainfo.classes (disc, box, di'),
    ],
)
def test_classes_that_are_no_list_of_names(det, classes, says):
    det.val_dataloader.dataset.metainfo = dict(classes=classes)
    assert says in problems(det)


def test_one_class_without_a_comma(det):
    """`classes=('disc')` is a string, by which mmdet finds the category."""
    for dataset in (det.train_dataloader.dataset.dataset, det.val_dataloader.dataset):
        dataset.metainfo = dict(classes='disc')
    det.model.bbox_head.num_classes = 1
    assert build(det).train_dataloader.dataset.dataset.cat_ids == [1]


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
