# SPDX-License-Identifier: Apache-2.0
"""Which metrics of a batch are computed, and when."""

import json

import pytest
from helpers.dry_runs import built, said
from mmengine.runner import ValLoop

from mmadaptor.engine.preflight.dry_run import dry_run


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
