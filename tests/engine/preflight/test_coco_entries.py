# SPDX-License-Identifier: Apache-2.0
"""Entries of an annotation file that cannot be read are named, never a traceback."""

import json
import os

import pytest
from helpers.refusals import edit, problems
from mmengine.registry import init_default_scope

from mmadaptor.engine.preflight.coco_entries import shown
from mmadaptor.engine.preflight.datasets import build_lazily, initialize
from mmadaptor.engine.preflight.report import Report


@pytest.fixture
def read(det, root):
    """Reads the annotations, changed, and returns the report."""
    init_default_scope('mmdet')

    def read(content):
        path = root / 'train.json'
        if callable(content):
            edit(path, content)
        else:
            path.write_bytes(content)
        report = Report()
        dataset = build_lazily(det.train_dataloader.dataset.dataset)
        initialize('train', dataset, report)
        return report.text('Training').replace(str(root), '')

    return read


def without(part, field):
    return lambda content: content[part][1].pop(field)


def changed(part, **changes):
    return lambda content: content[part][1].update(changes)


@pytest.mark.parametrize(
    'part, field',
    [
        ('annotations', 'bbox'),
        ('annotations', 'area'),
        ('annotations', 'id'),
        ('annotations', 'image_id'),
        ('annotations', 'category_id'),
        ('images', 'file_name'),
        ('images', 'id'),
        ('images', 'height'),
        ('categories', 'id'),
        ('categories', 'name'),
    ],
)
def test_an_entry_without_a_key(read, part, field):
    text = read(without(part, field))
    assert f'/train.json: {part}[1] (id ' in text and f') has no {field}\n' in text
    assert 'named by train.ann_file' in text


@pytest.mark.parametrize(
    'part, changes, says',
    [
        ('annotations', dict(id=[1]), 'id must be a number or text, got [1]'),
        ('annotations', dict(image_id={}), 'image_id must be a number or text, got {}'),
        ('annotations', dict(category_id=[1]), 'category_id must be a number or text'),
        ('annotations', dict(bbox=None), 'bbox must be four numbers, got null'),
        ('annotations', dict(bbox=[1, 2, 3]), 'bbox must be four numbers, got [1, 2'),
        ('annotations', dict(bbox=['1'] * 4), "bbox must be four numbers, got ['1'"),
        ('annotations', dict(bbox=[[1], 2, 3, 4]), 'bbox must be four numbers'),
        ('annotations', dict(bbox=[0] * 99), 'four numbers, got a list of 99'),
        ('annotations', dict(area='5'), "area must be a number, got '5'"),
        ('images', dict(id=[3]), 'id must be a number or text, got [3]'),
        ('images', dict(file_name=7), 'file_name must be text, got 7'),
        ('images', dict(file_name=None), 'file_name must be text, got null'),
        ('images', dict(height='48'), "height must be a number, got '48'"),
        ('categories', dict(id=[1]), 'id must be a number or text, got [1]'),
    ],
)
def test_values_of_another_type(read, part, changes, says):
    text = read(changed(part, **changes))
    assert f'/train.json: {part}[1] (id ' in text and says in text


@pytest.mark.parametrize('part', ['images', 'annotations', 'categories'])
def test_lists_that_are_none_and_null_entries(read, part):
    text = read(lambda content: content[part].append(None))
    assert f'/train.json: {part}[' in text and '] is null, not an object' in text
    text = read(lambda content: content.update({part: None}))
    assert f'/train.json: expected a list named {part}, got null' in text


DEEP = b'[' * 100_000 + b']' * 100_000


@pytest.mark.parametrize(
    'content, says',
    [
        (b'', '/train.json cannot be read: JSONDecodeError'),
        (b'\xff\xfe{}', '/train.json cannot be read: UnicodeDecodeError'),
        (DEEP, '/train.json cannot be read: RecursionError'),
        (b'{"images": ' + DEEP + b'}', '/train.json cannot be read: RecursionError'),
        (b'[]', '/train.json: expected an object with images, categories and ann'),
        (b'null', '/train.json: expected an object with images, categories and ann'),
        (b'9' * 5000, '/train.json cannot be read: ValueError: Exceeds the limit'),
    ],
)
def test_files_of_another_form(read, content, says):
    assert says in read(content)


def test_only_the_first_entries_are_listed(read):
    def change(content):
        for annotation in content['annotations'] * 2:
            annotation.pop('bbox', None)

    text = read(change)
    assert '4 problems found' in text and 'train.json: 1 more of this kind' in text


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


def test_the_rest_of_the_report_goes_on(det, root):
    edit(root / 'train.json', without('annotations', 'bbox'))
    edit(root / 'val.json', changed('annotations', bbox=[16, 8, float('inf'), 24]))
    det.model.bbox_head.num_classes = 7
    text = problems(det)
    for said in (
        f'{root}/train.json: annotations[1] (id 1) has no bbox',
        f'{root}/val.json has 1 annotations whose bbox or area',
        'model.bbox_head.num_classes is 7',
    ):
        assert said in text


def test_values_as_they_are_shown():
    assert shown(None) == 'null' and shown('a' * 99) == "'" + 'a' * 56 + '...'
    assert shown(10**5000) == 'a int'
    assert shown(json.loads('[' * 900 + ']' * 900)).startswith(('[[', 'a list'))
