# SPDX-License-Identifier: Apache-2.0
"""Classifiers' folders and lists: what is wrong with them is said at once."""

import pytest
from helpers.refusals import problems


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
        problems(cls)
    )


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


@pytest.mark.parametrize(
    'text, says',
    [
        (
            '0.png 0\n1.png 2\n',
            'has 1 labels outside of the 2 classes (first: line 2, 2)',
        ),
        ('0.png 0\n9.png 1\n', 'lacks 1 of the 2 images'),
        (
            '0.png 0\n1.png\n',
            'has 1 of 2 lines that are not "picture label" (first: line 2)',
        ),
        ('', 'has 0 of 0 lines'),
    ],
)
def test_lists_of_pictures_and_labels(cls, root, text, says):
    (root / 'list.txt').write_text(text)
    cls.train_dataloader.dataset.update(ann_file='list.txt', data_prefix='val')
    assert says in problems(cls)
