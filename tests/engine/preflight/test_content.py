# SPDX-License-Identifier: Apache-2.0
"""Images, classes and heads that fit one another, or are named."""

import copy
import shutil

import pytest
from helpers.refusals import build, edit, problems
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmadaptor.datasets import CLASSES, SEGMENTATION_CLASSES, make_shapes


def test_coco_itself_comes_with_its_address(det):
    for split in ('val', 'test'):
        det[f'{split}_dataloader'].dataset.update(data_root='none/coco', metainfo=None)
    assert 'https://cocodataset.org' in problems(det, 'test')


def test_real_pictures_come_with_their_command(det, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ('val', 'test'):
        det[f'{split}_dataloader'].dataset.update(data_root='data/trees/')
    assert 'Make it: python tools/make_data.py trees' in problems(det, 'test')


def test_missing_images_are_counted(det, root):
    (root / 'val' / '1.png').unlink()
    (root / 'val' / '3.png').unlink()
    text = problems(det)
    assert '2 of 4 files do not exist' in text
    assert f'(first: {root}/val/1.png, {root}/val/3.png)' in text


def test_images_in_subfolders_are_found(det, root):
    (root / 'val' / 'a').mkdir()
    (root / 'val' / '0.png').rename(root / 'val' / 'a' / '0.png')
    assert f'(first: {root}/val/0.png)' in problems(det)
    edit(
        root / 'val.json',
        lambda content: content['images'][0].update(file_name='a/0.png'),
    )
    build(det)


def test_folders_behind_symbolic_links_are_found(seg, root):
    """A store shared in a cluster: mmengine follows links."""
    for kind in ('val', 'masks'):
        (root / 'store').mkdir(exist_ok=True)
        shutil.move(root / kind, root / 'store' / kind)
        (root / kind).mkdir()
        (root / kind / 'city').symlink_to(root / 'store' / kind)
    assert len(build(seg).train_dataloader.dataset) == 4


def test_category_mismatch_shows_both_sides(det, root):
    det.train_dataloader.dataset.dataset.metainfo = dict(classes=('disc', 'ring'))
    text = problems(det)
    assert 'has no category ring (1 of the 2 in metainfo.classes' in text
    assert 'its categories are disc, box' in text


def test_default_classes_of_coco_do_not_fit_another_file(det):
    del det.test_dataloader.dataset['metainfo']
    assert '80 in metainfo.classes' in problems(det, 'test')


def test_head_of_another_number_of_classes(det):
    det.model.bbox_head.num_classes = 80
    text = problems(det)
    assert 'model.bbox_head.num_classes is 80' in text
    assert 'train_dataloader.dataset.dataset has 2 classes' in text


@pytest.mark.parametrize(
    'name, value, says',
    [
        ('batch_size', 0, 'batch_size should be a positive integer value, but got bat'),
        ('batch_size', 2.5, 'batch_size should be a positive integer value, but got'),
        ('num_workers', -1, 'num_workers option should be non-negative'),
    ],
)
def test_numbers_of_a_loader(det, name, value, says):
    """In torch's words."""
    det.train_dataloader[name] = value
    text = problems(det)
    assert '`train_dataloader` of the config: ' in text and says in text


def test_a_root_that_is_not_there(seg, cls):
    for cfg in (seg, cls):
        cfg.train_dataloader.dataset.data_root = 'none/here'
        assert 'missing: ' in problems(cfg)
        assert 'none/here/' in problems(cfg)


def test_a_suffix_that_finds_nothing(seg):
    seg.train_dataloader.dataset.img_suffix = '.jpg'
    assert 'BaseSegDataset: no sample is left. Check filter_cfg, indices, suffix' in (
        problems(seg)
    )


def test_a_list_of_images_that_are_not_there(seg, root):
    (root / 'list.txt').write_text('0\n9\n')
    seg.train_dataloader.dataset.ann_file = 'list.txt'
    text = problems(seg)
    assert f'1 of 2 files do not exist (first: {root}/val/9.png)' in text
    assert f'1 of 2 files do not exist (first: {root}/masks/9.png)' in text


def test_shapes_pass_with_its_own_classes(seg, cls, tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=6, val=1, workers=1)
    seg.train_dataloader.dataset.update(
        data_root=str(root),
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
    )
    seg.train_dataloader.dataset.metainfo = dict(classes=SEGMENTATION_CLASSES)
    seg.model.decode_head.num_classes = len(SEGMENTATION_CLASSES)
    cls.train_dataloader.dataset.update(
        data_root=str(root), metainfo=dict(classes=CLASSES), data_prefix='classes/train'
    )
    cls.model.head.num_classes = len(CLASSES)
    for cfg in (seg, cls):
        build(cfg)
    seg.train_dataloader.dataset.metainfo.classes = SEGMENTATION_CLASSES[:-1]
    assert 'has labels 6, and there are 6 classes' in problems(seg)


def test_datasets_inside_wrappers(det, root):
    inner = det.train_dataloader.dataset.dataset
    missing = {**inner, 'ann_file': 'other.json'}
    det.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[inner, missing])
    text = problems(det)
    assert f'missing: {root}/other.json' in text
    assert 'named by train_dataloader.dataset.datasets.1.ann_file' in text
    det.train_dataloader.dataset.datasets[1].ann_file = 'val.json'
    det.train_dataloader.dataset.datasets[1].data_prefix = dict(img='val/')
    assert len(build(det).train_dataloader.dataset) == 8


def test_a_wrapper_that_reads_at_once(det, root):
    """As mmdet's for Mosaic does, whatever `lazy_init` says."""
    inner = det.train_dataloader.dataset.dataset
    *load, pack = inner.pipeline
    inner.pipeline = load[:2]
    mosaic = dict(type='Mosaic', img_scale=(64, 64))
    det.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', dataset=inner, pipeline=[mosaic, pack]
    )
    build(det)
    edit(root / 'train.json', lambda content: content['categories'].reverse())
    text = problems(det)
    assert 'train.json lists its categories in another order' in text
    assert 'named by train_dataloader.dataset.dataset.ann_file' in text


def test_the_dataset_that_is_checked_is_the_one_that_is_read(det, monkeypatch):
    """Not a copy: one of COCO takes hundreds of megabytes."""
    copied = []
    monkeypatch.setattr(
        BaseDataset, '__deepcopy__', lambda *_: copied.append(1), raising=False
    )
    runner = build(det)
    loader = runner._train_dataloader
    assert runner.train_dataloader.dataset is loader['dataset']['type'].dataset
    assert copy.deepcopy(loader)['dataset']['type'] is loader['dataset']['type']
    assert not copied


def test_a_filter_that_leaves_nothing(det, root):
    """Said once: mmengine fails again wherever the length is asked for."""
    det.train_dataloader.dataset.dataset.filter_cfg = dict(min_size=100)
    text = problems(det)
    assert '1 problem found' in text
    assert 'train.json: no sample is left. Check filter_cfg' in text


def test_a_setting_that_was_for_another_dataset(cls):
    """As `split` in the base configs of ImageNet."""
    cls.train_dataloader.dataset.split = 'train'
    text = problems(cls)
    assert '1 problem found\n  1. CustomDataset has no argument `split`: ' in text
    assert 'If a base config sets it for another dataset, add _delete_=True' in text


def test_a_validation_on_training_images_is_noted(det, root):
    note = 'val_dataloader: 4 of its 4 images are in train_dataloader too'
    assert note not in build(det).notes
    det.val_dataloader.dataset.data_prefix.img = 'train/'
    assert note in build(det).notes


class OfOnesOwn:
    """A dataset that knows nothing of mmengine's."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return dict(inputs=index)


def test_datasets_that_are_not_mmengines(cls):
    DATASETS.register_module('OfOnesOwn', module=OfOnesOwn, force=True)
    cls.train_dataloader.dataset = dict(type='OfOnesOwn', size=3)
    assert len(build(cls).train_dataloader.dataset) == 3
    cls.train_dataloader.dataset = dict(type='OfOnesOwn', size=0)
    assert 'OfOnesOwn: no sample is left' in problems(cls)
    cls.train_dataloader.dataset = dict(type='OfOnesOwn', length=3)
    assert "unexpected keyword argument 'length'" in problems(cls)


def test_other_backends_are_not_looked_at(seg, monkeypatch):
    from mmengine.fileio import LocalBackend, register_backend

    register_backend('elsewhere', LocalBackend, force=True)
    dataset = seg.train_dataloader.dataset
    dataset.backend_args = dict(backend='elsewhere')
    dataset.data_prefix = dict(img_path='none', seg_map_path='none')
    assert 'data_prefix' not in problems(seg)


def test_a_metrics_file_that_is_missing(det):
    det.val_evaluator.ann_file = 'none/val.json'
    text = problems(det)
    assert (
        '1 problem found' in text
        and 'none/val.json\n     named by val_evaluator' in (text)
    )
