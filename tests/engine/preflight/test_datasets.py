# SPDX-License-Identifier: Apache-2.0
"""Wrappers get datasets that know their classes, and compare them as in mmengine."""

import copy
import shutil

import pytest
from helpers.refusals import build, problems
from mmengine.dataset import RepeatDataset
from mmengine.registry import DATASETS


@pytest.fixture
def folders(cls):
    """The config of a dataset that knows its classes by its folders only."""
    del cls.train_dataloader.dataset['metainfo']
    return copy.deepcopy(cls.train_dataloader.dataset)


def use(cls, dataset):
    """Put a dataset in the place of the config's own."""
    cls.train_dataloader.pop('dataset')
    cls.train_dataloader.dataset = dataset


def wrappers(one):
    two = [one, copy.deepcopy(one)]
    return dict(
        repeat=dict(type='RepeatDataset', times=2, dataset=one),
        balanced=dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=one),
        concat=dict(type='ConcatDataset', datasets=two),
        folds=dict(type='KFoldDataset', num_splits=2, dataset=one),
        nested=dict(
            type='RepeatDataset',
            times=3,
            dataset=dict(type='ConcatDataset', datasets=two),
        ),
    )


@pytest.mark.parametrize(
    'name, size',
    [('repeat', 8), ('balanced', 4), ('concat', 8), ('folds', 2), ('nested', 24)],
)
def test_a_wrapper_knows_the_classes(cls, folders, name, size):
    """They are saved in checkpoints as those of the training."""
    use(cls, wrappers(folders)[name])
    dataset = build(cls).train_dataloader.dataset
    assert dataset.metainfo['classes'] == ('box', 'disc')
    assert len(dataset) == size


def test_one_dataset_of_folders_with_other_classes(cls, folders, root):
    """Label 0 is a box in one of them and an apple in the other."""
    shutil.copytree(root / 'classes', root / 'other')
    (root / 'other' / 'disc').rename(root / 'other' / 'apple')
    other = {**folders, 'data_prefix': 'other'}
    use(cls, dict(type='ConcatDataset', datasets=[folders, other]))
    text = problems(cls)
    assert '2 problems found' in text and 'named by train_dataloader.dataset' in text
    assert 'ConcatDataset cannot be read: ValueError: The meta information of ' in text
    assert 'The same classes have other labels: train_dataloader.dataset.data' in text


def test_folds_of_one_dataset_have_no_common_image(cls, folders):
    for split, test_mode in (('train', False), ('test', True)):
        fold = {**wrappers(folders)['folds'], 'test_mode': test_mode}
        cls[f'{split}_dataloader'].pop('dataset')
        cls[f'{split}_dataloader'].dataset = fold
    cls.val_dataloader, cls.val_cfg = cls.test_dataloader, dict()
    cls.val_evaluator = cls.test_evaluator
    assert not [note for note in build(cls).notes if 'images are in' in note]


def test_a_wrapper_with_an_argument_that_it_has_not(cls, folders):
    use(cls, dict(type='RepeatDataset', time=2, dataset=folders))
    assert '1 problem found\n  1. RepeatDataset has no argument `time`' in problems(cls)


def test_a_part_that_cannot_be_built_is_named_once(cls, folders):
    other = {**folders, 'split': 'train'}
    use(cls, dict(type='ConcatDataset', datasets=[folders, other]))
    text = problems(cls)
    assert '1 problem found' in text and 'no argument `split`' in text
    assert 'named by train_dataloader.dataset.datasets.1' in text


class TestOnesOfOnesOwn:
    """They are built as mmengine builds them, for they may do anything."""

    def register(self, kind):
        DATASETS.register_module(kind.__name__, module=kind, force=True)
        return kind.__name__

    def test_it_changes_the_config(self, cls, folders):
        class Half(RepeatDataset):
            def __init__(self, dataset, **arguments):
                assert dataset['type'] == 'CustomDataset'
                super().__init__({**dataset, 'indices': 2}, **arguments)

        use(cls, dict(type=self.register(Half), times=1, dataset=folders))
        dataset = build(cls).train_dataloader.dataset
        assert len(dataset) == 2 and dataset.metainfo['classes'] == ('box', 'disc')

    def test_it_hands_on_what_it_does_not_know(self, cls, folders):
        class Handing(RepeatDataset):
            def __init__(self, **arguments):
                super().__init__(times=3, **arguments)

        use(cls, dict(type=self.register(Handing), dataset=folders))
        assert len(build(cls).train_dataloader.dataset) == 12

    def test_what_it_wraps_is_checked(self, det):
        class Own(RepeatDataset):
            def __init__(self, dataset):
                super().__init__(dataset, times=1)

        one = det.train_dataloader.dataset.dataset
        one.metainfo = dict(classes=('box', 'disc'))
        use(det, dict(type=self.register(Own), dataset=one))
        assert 'lists its categories in another order' in problems(det)

    def test_a_name_in_the_place_of_a_dataset(self, cls):
        class Named(Numbers):
            def __init__(self, dataset):
                self.dataset = dataset

        use(cls, dict(type=self.register(Named), dataset=dict(type='no dataset')))
        assert len(build(cls).train_dataloader.dataset) == 4


class Numbers:
    """A dataset that knows nothing of mmengine's."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=index)


@pytest.mark.parametrize('name', ['dataset', 'datasets'])
def test_data_with_the_name_of_a_dataset(cls, name):
    kind = type('Holding', (Numbers,), {name: [(0, 1)] * 4})
    DATASETS.register_module('Holding', module=kind, force=True)
    use(cls, dict(type='Holding'))
    assert len(build(cls).train_dataloader.dataset) == 4
