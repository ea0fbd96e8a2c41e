# SPDX-License-Identifier: Apache-2.0
"""A dry run works on copies; what cannot be copied is not tried, and not refused."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from helpers.dry_runs import built, said
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.logging import MessageHub

from mmadaptor.engine.preflight.copies import NotCopiedError, copy_of_data
from mmadaptor.engine.preflight.dry_run import dry_run


def yolox(cfg):
    """YOLOX of mmdet's own config, narrow; its preprocessor reads the iteration."""
    model = get_config('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py').model
    model.backbone.update(widen_factor=0.125, init_cfg=None)
    model.neck.update(in_channels=[32, 64, 128], out_channels=16)
    model.bbox_head.update(num_classes=2, in_channels=16, feat_channels=16)
    cfg.model = model


def tood(cfg):
    """TOOD with the head of mmdet's own config, narrow; it reads the epoch."""
    model = get_config('mmdet::tood/tood_r50_fpn_1x_coco.py').model
    head = model.bbox_head
    head.update(num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1)
    head.anchor_generator.strides = [8, 16, 32]
    head.norm_cfg = dict(type='GN', num_groups=4)
    model.update(
        backbone=cfg.model.backbone,
        neck=cfg.model.neck,
        data_preprocessor=cfg.model.data_preprocessor,
    )
    cfg.model = model


@pytest.mark.parametrize('change', [yolox, tood])
def test_models_that_read_the_message_hub(det, change):
    """They are tried as in the first iteration, and the hub is as it was."""
    change(det)
    runner = built(det)
    hub = runner.message_hub
    assert hub is MessageHub.get_current_instance()
    hub.update_info('kept', kept := [1])
    hub.update_scalar('scalar', 2.0)
    states = {name: (value, str(value)) for name, value in vars(hub).items()}
    seen = []
    runner.model.data_preprocessor.register_forward_hook(
        lambda *_: seen.append({**hub.runtime_info, **hub.log_scalars})
    )
    runner.model.data_preprocessor.register_forward_hook(
        lambda *_: hub.get_info('kept').append(hub.update_scalar('scalar', 3.0))
    )
    dry_run(runner)
    train, val = seen
    names = ('loop_stage', 'epoch', 'iter', 'max_epochs', 'max_iters')
    assert [train[name] for name in names] == ['train', 0, 0, 1, 2]
    assert train['dataset_meta'] == runner.train_dataloader.dataset.metainfo
    assert train['train/lr'].current() == 0.001
    assert val['loop_stage'] == 'val'
    assert runner.warned == [] and kept == [1]
    for name, value in vars(hub).items():
        assert value is states[name][0] and str(value) == states[name][1]
    assert hub.get_scalar('scalar').current() == 2.0


def test_a_model_whose_info_no_hook_sets_is_refused(det):
    tood(det)
    det.default_hooks.runtime_info = None
    runner = built(det)
    text = said(runner)
    assert "'<' not supported between instances of 'NoneType' and 'int'" in text


class ChangingHook(Hook):
    def before_train(self, runner):
        pass


class Holder:
    """A transform with something in it."""

    def __init__(self, content):
        self.content = content

    def __call__(self, results):
        raise AssertionError('no sample is loaded')


@pytest.mark.parametrize('content', [threading.Lock, 'file', 'generator', 'clahe'])
def test_a_transform_that_cannot_be_copied_is_not_tried(cls, tmp_path, content):
    cv2 = pytest.importorskip('cv2')
    (tmp_path / 'numbers').write_text('0\n1\n')
    make = dict(
        file=(tmp_path / 'numbers').open,
        generator=lambda: (i for i in range(2)),
        clahe=cv2.createCLAHE,
    )
    content = make.get(content, content)()
    runner = built(cls)
    pipeline = runner.train_dataloader.dataset.pipeline
    pipeline.transforms.append(Holder(content))
    dry_run(runner)
    (warning,) = runner.warned
    assert 'CustomDataset of train_dataloader cannot be copied: ' in warning
    assert warning.endswith(', so it is not tried')
    if hasattr(content, '__next__'):
        assert next(content) in (0, '0\n')


def test_a_validation_set_that_cannot_be_copied_is_not_tried(det):
    runner = built(det)
    runner.val_dataloader.dataset.pipeline.transforms.append(Holder(threading.Lock()))
    dry_run(runner)
    (warning,) = runner.warned
    assert 'CocoDataset of val_dataloader cannot be copied: ' in warning


class Stream:
    """A dataset whose samples come from what it holds."""

    def __init__(self, source, draw):
        self.source, self.draw, self.table = source, draw, [1, 2]

    def __getitem__(self, index):
        return self.draw(self.source)


@pytest.mark.parametrize(
    'source, draw',
    [
        (iter([5, 6]), next),
        (np.random.RandomState(3), lambda source: source.rand()),
        (np.random.default_rng(3), lambda source: source.random()),
        (torch.Generator(), lambda source: torch.rand((), generator=source).item()),
    ],
)
def test_what_a_dataset_takes_samples_from_is_not_used(source, draw):
    stream = Stream(source, draw)
    try:
        copied = copy_of_data(stream, '')
    except NotCopiedError:  # torch's generators, in versions that cannot copy them
        return
    assert copied.table is stream.table
    assert copied[0] == stream[0]


def test_a_file_of_a_dataset_is_not_read(tmp_path):
    (tmp_path / 'numbers').write_text('0\n1\n')
    with open(tmp_path / 'numbers') as file:
        with pytest.raises(
            NotCopiedError, match='^Stream of a loader cannot be copied'
        ):
            copy_of_data(Stream(file, next), 'a loader')
        assert next(file) == '0\n'


@pytest.mark.parametrize('batches', [1, 2])
def test_a_training_on_a_part_of_the_samples(cls, batches):
    """`num_batch_per_epoch`; its wrapper cannot be copied."""
    cls.train_dataloader.num_batch_per_epoch = batches
    runner = built(cls)
    dry_run(runner)
    assert runner.warned == []
    runner.train_dataloader.dataset.pipeline.transforms.append(lambda results: 1 / 0)
    assert 'A batch of train_dataloader, of 2 samples, fails: ' in said(runner)


def test_no_copy_outlives_an_error(cls):
    """It may be as large as a GPU's memory, which a cycle would hold for long."""
    runner, copies = built(cls), []

    def fail(module, inputs):
        copies.append(weakref.ref(module))
        raise ValueError('only tried')

    runner.model.head.register_forward_pre_hook(fail)
    runner.hooks.append(ChangingHook())  # makes the error a warning
    gc.collect()
    gc.disable()
    try:
        dry_run(runner)
    finally:
        gc.enable()
    (copied,) = copies
    assert 'ValueError: only tried' in runner.warned[0] and copied() is None
