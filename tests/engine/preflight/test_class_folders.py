# SPDX-License-Identifier: Apache-2.0
"""Classifiers' folders and lists: what is wrong with them is said at once."""

import copy
import json
import shutil

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


def test_a_folder_of_a_class_of_another_number(cls, root):
    """The other folder has another name than its class, as those of ImageNet have."""
    (root / 'classes' / 'box').rename(root / 'classes' / 'abox')
    build(cls)
    (root / 'classes' / 'abox').rename(root / 'classes' / 'zbox')
    assert 'numbered in alphabetical order (disc, zbox)' in problems(cls)


def test_a_validation_without_the_folder_of_a_class(cls, root):
    """Without metainfo.classes, the classes after it have other numbers there."""
    cls.train_dataloader.dataset.metainfo = None
    cls.val_dataloader = copy.deepcopy(cls.train_dataloader)
    cls.val_evaluator, cls.val_cfg = cls.test_evaluator, dict()
    cls.val_dataloader.dataset.data_prefix = 'fewer'
    shutil.copytree(root / 'classes', root / 'fewer')
    (root / 'fewer' / 'disc').rename(root / 'disc')
    assert 'model.head.num_classes is 2, but val_dat' in ''.join(build(cls).notes)
    (root / 'fewer' / 'box').rename(root / 'box')
    (root / 'disc').rename(root / 'fewer' / 'disc')
    text = problems(cls)
    assert '1 problem found' in text and 'The same classes have other labels' in text


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


def test_classes_in_another_order_than_in_a_file_of_mmengine(cls, root):
    """Its labels are numbers of its own list, which the config's replaces."""
    meta, images = dict(classes=['box', 'disc']), [dict(img_path='0.png', gt_label=1)]
    content = json.dumps(dict(metainfo=meta, data_list=images))
    (root / 'labels.json').write_text(content)
    cls.train_dataloader.dataset.update(
        type='mmpretrain.BaseDataset', ann_file='labels.json', data_prefix='val'
    )
    build(cls)
    cls.train_dataloader.dataset.metainfo.classes = ('cube', 'ring')
    build(cls)
    cls.train_dataloader.dataset.metainfo.classes = ('disc', 'box')
    assert 'of the classes in its metainfo (box, disc), and metainfo' in problems(cls)
