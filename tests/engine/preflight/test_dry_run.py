# SPDX-License-Identifier: Apache-2.0
"""What only the loss, the last batch or the first evaluation meets is said first."""

import os
import random
import sys

import numpy as np
import pytest
import torch
from helpers.dry_runs import built, said
from helpers.refusals import build, edit
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS, HOOKS

from mmadaptor.engine.preflight.dry_run import dry_run


def pooling(seg, batch_size, **train_cfg):
    """A head that normalizes a map of one pixel, trained on four images."""
    seg.model.decode_head = dict(
        type='ASPPHead', in_channels=64, channels=8, num_classes=2, dilations=(1,),
        norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss'),
    )  # fmt: skip
    seg.train_dataloader.update(
        batch_size=batch_size, sampler=dict(type='DefaultSampler', shuffle=True)
    )
    seg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1) | train_cfg
    return seg


def test_a_last_batch_of_one_that_cannot_be_normalized(seg):
    text = said(built(pooling(seg, 3)))
    assert text.startswith('Training not started: 1 problem found\n  1. The last batch')
    assert 'batch of train_dataloader, of 1 sample, fails: ValueError: Expected' in text
    assert '(in model.decode_head.image_pool.1.bn, torch.nn.functional line' in text
    assert text.endswith(
        'A batch of 3 works: set drop_last=True, or another batch_size'
    )


def test_a_head_that_does_not_fit_the_backbone(seg):
    """The error has what the backbone returns."""
    arch = dict(embed_dims=8, depths=(1, 1), d_state=1, ssm_ratio=1.0)
    seg.model.backbone = dict(type='mmadaptor.VMamba', arch=arch, out_indices=(1,))
    head = dict(type='FCNHead', in_channels=48, in_index=0, channels=8, num_convs=1)
    head |= dict(num_classes=2, loss_decode=dict(type='CrossEntropyLoss'))
    seg.model.decode_head = head
    text = said(built(seg))
    assert 'to have 48 channels, but got 16' in text
    assert '(in model.decode_head.convs.0.conv,' in text
    assert text.endswith(
        'The backbone returns out_indices=(1,) with out_channels=(16,) and strides=(8,)'
    )
    seg.model.decode_head.in_channels = 16
    dry_run(built(seg))


@pytest.mark.parametrize('batch_size, works', [(1, False), (2, True), (4, True)])
def test_batches_that_are_all_alike(seg, batch_size, works):
    runner = built(pooling(seg, batch_size))
    if works:
        dry_run(runner)
    else:
        text = said(runner)
        assert 'A batch of train_dataloader, of 1 sample, fails: ValueError' in text
        assert 'works' not in text


def test_a_last_batch_that_is_never_trained_with(seg):
    pooling(seg, 3).train_dataloader.drop_last = True
    dry_run(built(seg))
    del seg.train_dataloader['drop_last']
    seg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    dry_run(built(seg))
    seg.train_cfg.max_iters = 2
    said(built(seg))
    seg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    dry_run(built(seg))


@pytest.fixture
def segm(det, root):
    """A metric of masks, which the detector does not predict."""

    def add_masks(content):
        for annotation in content['annotations']:
            annotation['segmentation'] = [[16, 8, 40, 8, 40, 32, 16, 32]]

    edit(root / 'val.json', add_masks)
    det.val_evaluator.metric = ['bbox', 'segm']
    return det


def test_a_metric_of_what_the_model_does_not_predict(segm):
    """Without it, an epoch later."""
    text = said(built(segm))
    assert (
        "The first batch of val_dataloader, of 1 sample, fails: KeyError: 'segm is not "
        "in results' (in no module, mmdet.evaluation.metrics.coco_metric line " in text
    )


def test_a_validation_that_never_comes_is_not_tried(segm):
    segm.train_cfg.val_begin = 2
    runner = built(segm)
    runner.train_loop._max_iters = 1
    dry_run(runner)


class Draws:
    """A transform that draws from all generators, and keeps what it was given."""

    seen = 0

    def __init__(self):
        self.kept = []

    def __call__(self, results):
        Draws.seen += 1
        self.kept.append(random.random() + np.random.rand() + torch.rand(()).item())
        return results


def state(runner):
    model = runner.model
    return dict(
        weights={k: v.clone() for k, v in model.state_dict().items()},
        gradients=[parameter.grad for parameter in model.parameters()],
        modes=[module.training for module in model.modules()],
        counts=vars(model.backbone).get('calls'),
        numpy=np.random.get_state()[1].tolist(),
        python=random.getstate(),
        torch=torch.get_rng_state(),
    )


@pytest.mark.parametrize('toolbox', ['det', 'seg', 'cls'])
def test_nothing_changes(toolbox, request, capsys):
    """Also what a model, a pipeline or a metric keeps between batches."""
    cfg = request.getfixturevalue(toolbox)
    cfg.update(
        val_cfg=dict(),
        val_dataloader=cfg.test_dataloader,
        val_evaluator=cfg.test_evaluator,
    )
    runner = built(cfg)
    backbone, loader = runner.model.backbone, runner.train_dataloader
    backbone.calls, backbone.used = 0, []
    backbone.register_forward_hook(count)
    pipeline = getattr(loader.dataset, 'dataset', loader.dataset).pipeline
    pipeline.transforms.append(draws := Draws())
    before, Draws.seen, count.modes = state(runner), 0, []
    metrics = [dict(vars(metric)) for metric in runner.val_loop.evaluator.metrics]
    capsys.readouterr()
    dry_run(runner)
    torch.testing.assert_close(state(runner), before, rtol=0, atol=0)
    assert [vars(metric) for metric in runner.val_loop.evaluator.metrics] == metrics
    assert draws.kept == [] and Draws.seen == 2
    assert count.modes == [True, False]
    (line,) = capsys.readouterr().out.splitlines()
    assert 'INFO - Tried a batch of training and of validation: ' in line


def count(module, inputs, outputs):
    module.calls += 1
    count.modes.append(module.training)


@pytest.mark.parametrize(
    'evaluator',
    [dict(outfile_prefix='results'), dict(outfile_prefix='results', format_only=True)],
)
def test_metrics_leave_no_files(det, tmp_path, monkeypatch, evaluator):
    monkeypatch.chdir(tmp_path)
    det.val_evaluator.update(evaluator)
    before = set(tmp_path.iterdir())
    dry_run(built(det))
    assert set(tmp_path.iterdir()) == before  # though there are boxes to write


def test_masks_are_written_nowhere(seg, tmp_path):
    seg.test_evaluator.update(output_dir=str(tmp_path / 'masks'))
    seg.update(
        val_cfg=dict(),
        val_dataloader=seg.test_dataloader,
        val_evaluator=seg.test_evaluator,
    )
    dry_run(built(seg))
    assert list((tmp_path / 'masks').iterdir()) == []


@HOOKS.register_module()
class PreparingHook(Hook):
    """Might give the head what it lacks."""

    def before_train(self, runner):
        raise AssertionError('no hook is called')


def test_an_error_that_a_hook_may_prevent_is_a_warning(seg):
    pooling(seg, 1).custom_hooks = [dict(type='PreparingHook')]
    runner = built(seg)
    dry_run(runner)
    (warning,) = runner.warned
    assert 'As tried before the training: A batch of train_dataloader' in warning
    assert 'Expected more than 1 value per channel' in warning


def test_memory_for_two_models_is_not_asked_for(cls, monkeypatch):
    runner = built(cls)

    def loss(self, *_):
        raise torch.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr(type(runner.model), 'loss', loss)
    dry_run(runner)
    (warning,) = runner.warned
    assert 'two models need more memory than one: CUDA out of memory.' in warning


@DATA_SAMPLERS.register_module()
class PairSampler(DefaultSampler):
    """A sampler whose batches have a meaning."""


def sampler(runner):
    runner.train_dataloader.batch_sampler.sampler = PairSampler(range(4))


def step(runner):
    kind = type(runner.model)
    runner.model.__class__ = type('Steps', (kind,), dict(train_step=kind.loss))


def forward(runner):
    """As mmengine does for activation checkpointing."""
    original = runner.model.head.forward
    runner.model.head.forward = lambda *args: original(*args)


def wrapper(runner):
    runner.model = torch.nn.ModuleDict(dict(module=runner.model))


@pytest.mark.parametrize('change', [sampler, step, forward, wrapper])
def test_what_is_not_known_to_work_on_one_batch_is_not_tried(cls, change, monkeypatch):
    runner = built(cls)

    def loss(self, *_):
        raise ValueError('only in training')

    monkeypatch.setattr(type(runner.model), 'loss', loss)
    assert 'ValueError: only in training' in said(runner)
    change(runner)
    dry_run(runner)
    assert runner.warned == []


def test_the_error_of_another_process_ends_this_one(cls, monkeypatch):
    runner = built(cls)
    monkeypatch.setattr(
        sys.modules['mmadaptor.engine.preflight.dry_run'],
        'all_gather_object',
        lambda own: [own, ('Training not started: it says', [])],
    )
    assert said(runner) == 'Training not started: it says'


def test_a_model_that_cannot_be_copied_is_not_tried(cls):
    runner = built(cls)
    runner.model.generator = (i for i in range(3))
    dry_run(runner)
    assert 'ImageClassifier cannot be copied: cannot pickle' in runner.warned[0]


def test_a_training_tries_first(cls, monkeypatch):
    tried = []
    monkeypatch.setattr('mmadaptor.engine.runner.dry_run', tried.append)
    monkeypatch.setattr(BaseModel, 'train_step', lambda *_, **__: 1 / 0)
    runner = build(cls)
    os.makedirs(runner.work_dir)
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert tried == [runner]


def test_a_bare_assertion_of_a_toolbox_is_shown(cls, monkeypatch):
    from mmdet.models.necks import FPN

    def forward(*args, **kwargs):
        FPN([8, 8], 8, num_outs=1)

    runner = built(cls)
    monkeypatch.setattr(type(runner.model), 'forward', forward)
    assert 'AssertionError: assert num_outs ' in said(runner)


def test_a_bug_of_a_dataset_is_named_with_its_place(cls):
    runner = built(cls)
    runner.train_dataloader.dataset.pipeline.transforms.append(lambda results: 1 / 0)
    text = said(runner)
    assert 'fails: RuntimeError: ' in text and ': division by zero (in no mod' in text
