# SPDX-License-Identifier: Apache-2.0
"""Classifiers' folders and lists: what is wrong with them is said at once."""

import json

import pytest
from helpers.refusals import build, problems


def test_a_class_folder_without_images_is_noted_and_stops_nothing(cls, root):
    for path in (root / 'classes' / 'box').iterdir():
        path.rename(path.with_suffix('.txt'))
    notes = build(cls).notes
    assert notes == [
        'train_dataloader.dataset: 1 of 2 classes, such as box, have no sample'
    ]


def test_folders_and_classes_that_differ(cls, root):
    (root / 'classes' / 'ring').mkdir()
    text = problems(cls)
    assert "The number of subfolders (3) doesn't match the number of specified" in text
    assert 'named by train_dataloader.dataset' in text


def test_classes_in_another_order_than_their_folders(cls):
    """mmpretrain numbers the folders and would call each by the other's name."""
    cls.train_dataloader.dataset.metainfo = dict(classes=('disc', 'box'))
    assert 'numbered in alphabetical order (box, disc)' in problems(cls)


def test_head_of_another_number_than_the_folders(cls):
    """One of more classes is trained as it is: it learns not to predict the others."""
    for dataset in (cls.train_dataloader.dataset, cls.test_dataloader.dataset):
        dataset.metainfo = None
    cls.model.data_preprocessor.num_classes = cls.model.head.num_classes = 1
    text = 'model.head.num_classes is {}, but train_dataloader.dataset has 2 classes'
    assert text.format(1) in problems(cls)
    cls.model.data_preprocessor.num_classes = cls.model.head.num_classes = 7
    assert text.format(7) in build(cls).notes


@pytest.mark.parametrize(
    'text, says',
    [
        ('0.png 0\n1.png 2\n', '1 of 2 labels are outside of the 2 classes (first: 2)'),
        ('0.png 0\n9.png 1\n', '1 of 2 files do not exist (first: '),
        ('0.png 0\n1.png\n', 'list.txt cannot be read: ValueError'),
        ('', 'list.txt: no sample is left'),
    ],
)
def test_lists_of_images_and_labels(cls, root, text, says):
    (root / 'list.txt').write_text(text)
    cls.train_dataloader.dataset.update(ann_file='list.txt', data_prefix='val')
    assert says in problems(cls)


def test_several_labels_of_an_image(cls, root):
    """The last image has one that there is not; the first batches do not meet it."""
    images = [dict(img_path=f'{i % 4}.png', gt_label=[0, 1]) for i in range(60)]
    dataset = dict(
        type='MultiLabelDataset',
        data_root=str(root),
        data_prefix='val',
        ann_file='labels.json',
        pipeline=cls.train_dataloader.dataset.pipeline,
    )
    cls.train_dataloader.pop('dataset')
    cls.train_dataloader.dataset = dataset
    content = dict(metainfo=dict(classes=['box', 'disc']), data_list=images)
    (root / 'labels.json').write_text(json.dumps(content))
    build(cls)
    images[-1]['gt_label'] = [1, 2]
    (root / 'labels.json').write_text(json.dumps(content))
    text = '1 of 120 labels are outside of the 2 classes (first: 2)'
    assert text in problems(cls)
