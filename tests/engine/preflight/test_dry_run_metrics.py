# SPDX-License-Identifier: Apache-2.0
"""Metrics of a batch, and the names that hooks look up after a validation."""

import json
import sys

import pytest
from helpers import toy  # noqa: F401
from helpers.dry_runs import built, said
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import ValLoop

from mmadaptor.engine.preflight.dry_run import dry_run

LISTED = (
    ' is none of the metrics of val_evaluator: coco/bbox_mAP, coco/bbox_mAP_50, '
    'coco/bbox_mAP_75, coco/bbox_mAP_s, coco/bbox_mAP_m, coco/bbox_mAP_l'
)
STOP = dict(type='EarlyStoppingHook', monitor='bbox_mAP', strict=True)


def save_best(cfg, names, **others):
    cfg.default_hooks.checkpoint.update(save_best=names, **others)


@pytest.mark.parametrize(
    'names', ['coco/bbox_mAP', ['coco/bbox_mAP_50', 'coco/bbox_mAP'], 'auto']
)
def test_names_that_a_validation_has(det, names):
    save_best(det, names)
    det.custom_hooks = [dict(STOP, monitor='coco/bbox_mAP_s')]
    runner = built(det)
    dry_run(runner)
    assert runner.warned == []


def test_a_best_checkpoint_by_a_name_without_the_prefix(det):
    save_best(det, ['coco/bbox_mAP', 'bbox_mAP'])
    text = said(built(det))
    assert f"1. save_best='bbox_mAP' of CheckpointHook{LISTED}" in text
    assert '1 problem' in text


def test_stopping_early_by_a_name_that_no_metric_has(det):
    det.custom_hooks = [STOP]
    assert f"1. monitor='bbox_mAP' of EarlyStoppingHook{LISTED}" in said(built(det))
    det.custom_hooks = [dict(STOP, strict=False)]  # mmengine warns, and trains on
    runner = built(det)
    dry_run(runner)
    (warning,) = runner.warned
    assert f"monitor='bbox_mAP' of EarlyStoppingHook{LISTED}" in warning


@pytest.mark.parametrize('monitor', ['loss', 'coco/bbox_mAP'])
def test_a_rate_by_a_metric(det, monitor):
    runner = built(det)
    scheduler = dict(type='ReduceOnPlateauLR', monitor=monitor, rule='greater')
    runner.param_schedulers = runner.build_param_scheduler([scheduler])
    dry_run(runner)
    if monitor == 'loss':  # mmengine's default; it is looked up before the last epoch
        assert f"monitor='loss' of ReduceOnPlateauLR{LISTED}" in runner.warned[0]
    else:
        assert runner.warned == []


def test_the_first_metric_of_a_matrix_has_no_rule(cls):
    cls.update(
        val_cfg=dict(),
        val_dataloader=cls.test_dataloader,
        val_evaluator=[dict(type='ConfusionMatrix'), cls.test_evaluator],
    )
    cls.default_hooks.checkpoint = dict(type='CheckpointHook', save_best='auto')
    text = said(built(cls))
    assert "save_best='auto' takes the first metric: Cannot infer the rule for" in text
    cls.val_evaluator.reverse()
    dry_run(built(cls))


@HOOKS.register_module()
class AddingHook(Hook):
    """Adds a metric."""

    def after_val_epoch(self, runner, metrics=None):
        metrics['bbox_mAP'] = metrics['coco/bbox_mAP']


@HOOKS.register_module()
class OwnCheckpointHook(CheckpointHook):
    """Looks a metric up in its own way."""

    def _save_best_checkpoint(self, runner, metrics):
        self.best = max(metrics[f'coco/{name}'] for name in self.save_best)


@pytest.mark.parametrize('case', ['other metric', 'other hook', 'own rules', 'no box'])
def test_a_name_that_may_be_there_later_is_not_refused(det, case, monkeypatch):
    save_best(det, 'bbox_mAP')
    if case == 'other metric':
        det.val_evaluator = [det.val_evaluator, dict(type='ToyMetric')]
    elif case == 'other hook':
        det.custom_hooks = [dict(type='AddingHook')]
    elif case == 'own rules':
        det.default_hooks.checkpoint.type = 'OwnCheckpointHook'
    else:
        det.val_evaluator.metric = ['proposal_fast', 'bbox']
        module = sys.modules['mmadaptor.engine.preflight.dry_run']
        monkeypatch.setattr(module, '_accept_all_boxes', lambda model: None)
        det.model.test_cfg.score_thr = 1.0
    runner = built(det)
    dry_run(runner)
    noted = [text for text in runner.warned if "save_best='bbox_mAP'" in text]
    assert len(noted) == (case in ('other hook', 'no box'))


def test_two_metrics_of_the_same_name(det):
    """mmengine ends the first validation."""
    det.val_evaluator = [det.val_evaluator, dict(det.val_evaluator)]
    text = said(built(det))
    assert 'fails: ValueError: two metrics of val_evaluator are coco/bbox_mAP: ' in text


def test_an_evaluator_that_splits_the_samples(det, root):
    """Each metric of mmdet's has the annotations of one of the datasets."""
    content = json.loads((root / 'val.json').read_text())
    for image in content['images']:
        image['id'] += 1000
    for annotation in content['annotations']:
        annotation['image_id'] += 1000
    (root / 'others.json').write_text(json.dumps(content))
    dataset = det.val_dataloader.dataset
    det.val_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dataset, dict(dataset, ann_file='others.json')]
    )
    metrics = [
        dict(type='CocoMetric', ann_file=str(root / name), metric='bbox')
        for name in ('val.json', 'others.json')
    ]
    det.val_evaluator = dict(
        type='MultiDatasetsEvaluator', dataset_prefixes=['one', 'two'], metrics=metrics
    )
    save_best(det, 'one/coco/bbox_mAP')
    runner = built(det)
    dry_run(runner)
    assert runner.warned == []


@pytest.mark.parametrize('begin, tried', [(1, True), (2, False)])
def test_a_validation_after_the_last_epoch_is_not_tried(det, monkeypatch, begin, tried):
    """Though the epoch has more iterations than that."""
    det.train_cfg.val_begin = begin
    runner = built(det)
    assert runner.train_loop.max_iters == 2
    monkeypatch.setattr(type(runner.model), 'predict', lambda *_, **__: 1 / 0)
    if tried:
        assert 'The first batch of val_dataloader' in said(runner)
    else:
        dry_run(runner)


def test_a_validation_after_the_last_iteration_is_not_tried(seg, monkeypatch):
    seg.update(
        val_cfg=dict(),
        val_dataloader=seg.test_dataloader,
        val_evaluator=seg.test_evaluator,
    )
    seg.train_cfg.val_begin = 2
    runner = built(seg)
    monkeypatch.setattr(type(runner.model), 'predict', lambda *_, **__: 1 / 0)
    assert type(runner.val_loop) is ValLoop
    assert 'ZeroDivisionError' in said(runner)
    runner.train_loop.val_begin = 3
    dry_run(runner)
