# SPDX-License-Identifier: Apache-2.0
"""Numbers of classes that a model, its labels and its metrics have."""

import pytest
from helpers.refusals import build, problems


@pytest.mark.parametrize('augment', ['Mixup', 'CutMix'])
def test_one_hot_labels_of_another_number_of_classes(cls, augment):
    """The recipe of ImageNet on other classes: the loss compares 2 with 1000."""
    cls.model.train_cfg = dict(augments=[dict(type=augment, alpha=0.8)])
    build(cls)
    cls.model.data_preprocessor.num_classes = 1000
    text = problems(cls)
    assert 'data_preprocessor.num_classes is 1000, but train_dataloader' in text
    assert '1 problem found' in text


def test_without_one_hot_labels_their_number_is_not_used(cls):
    cls.model.data_preprocessor.num_classes = 1000
    build(cls)


def test_more_guesses_than_classes(cls):
    cls.test_evaluator.topk = (1, 2)
    build(cls, 'test')
    cls.test_evaluator.topk = (1, 5)
    text = problems(cls, 'test')
    assert 'test_evaluator: topk of Accuracy is (1, 5), but test_dataloader' in text
    assert 'has 2 classes' in text
    cls.test_evaluator = [dict(type='SingleLabelMetric'), cls.test_evaluator]
    assert 'topk of Accuracy is (1, 5)' in problems(cls, 'test')


@pytest.mark.parametrize(
    'metric',
    [
        dict(type='RetrievalAveragePrecision', topk=10),
        dict(type='RetrievalRecall', topk=(1, 5)),
        dict(type='Accuracy', topk=1),
    ],
)
def test_guesses_that_are_no_classes(cls, metric):
    """A retrieval returns images."""
    cls.test_evaluator = metric
    build(cls, 'test')


def test_guesses_of_a_model_that_knows_more_classes(cls):
    cls.model.head.num_classes = 10
    cls.test_evaluator.topk = (1, 5)
    build(cls, 'test')


def test_one_hot_labels_of_a_head_that_knows_more_classes(cls):
    cls.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.8)])
    cls.model.data_preprocessor.num_classes = cls.model.head.num_classes = 7
    build(cls)


@pytest.mark.parametrize('count, fits', [(1, False), (2, True), (9, True)])
def test_a_segmentor_with_more_classes(seg, count, fits):
    seg.model.decode_head.num_classes = count
    assert fits or 'model.decode_head.num_classes is 1, but' in problems(seg)
    if fits:
        said = 'model.decode_head.num_classes is 9, but train_dataloader.dataset has 2'
        assert any(said in note for note in build(seg).notes) == (count == 9)


def test_a_segmentor_of_one_class_with_a_threshold(seg):
    seg.model.decode_head.update(
        num_classes=1,
        out_channels=1,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
    )
    build(seg)


def test_a_head_of_ones_own_is_not_known(det):
    """It may count the background, or nothing."""
    from mmdet.models import RetinaHead
    from mmengine.registry import MODELS

    class OwnHead(RetinaHead):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.num_classes += 1

    MODELS.register_module('OwnHead', module=OwnHead, force=True)
    det.model.bbox_head.type = 'OwnHead'
    assert any('bbox_head.num_classes is 3' in note for note in build(det).notes)


def test_a_metric_that_ignores_another_label(seg):
    assert build(seg, 'test').notes == []
    seg.model.decode_head.ignore_index = 7
    assert build(seg, 'test').notes == [
        'test_evaluator: IoUMetric ignores label 255, but the heads ignore 7, which it '
        'counts as a mistake'
    ]
    seg.test_evaluator.ignore_index = 7
    assert build(seg, 'test').notes == []


def test_a_head_of_masks_without_classes_has_any_number(det):
    """mmdet's masks of no class ignore `num_classes`, 80 by default."""
    pytest.importorskip('mmdet')
    from mmengine.registry import MODELS
    from torch import nn

    from mmadaptor.engine.preflight.heads import check_heads
    from mmadaptor.engine.preflight.report import Report

    dataset = build(det).val_dataloader.dataset
    for class_agnostic, problems_found in ((True, 0), (False, 1)):
        head = MODELS.build(
            dict(type='FCNMaskHead', num_classes=80, class_agnostic=class_agnostic)
        )
        report = Report()
        check_heads(nn.ModuleDict(dict(mask_head=head)), dataset, 'val', report)
        assert len(report.problems) == problems_found


def test_a_detector_of_objects_without_classes_has_one(det):
    """mmdet's RPN names its head `bbox_head`; the stock configs train it on COCO."""
    det.model.bbox_head.num_classes = 1
    assert 'model.bbox_head.num_classes is 1, but train_data' in problems(det)
    head = det.model.bbox_head
    det.model = dict(
        type='RPN',
        data_preprocessor=det.model.data_preprocessor,
        backbone=det.model.backbone,
        neck=det.model.neck,
        rpn_head=dict(
            type='RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=head.anchor_generator,
        ),
        train_cfg=dict(rpn=det.model.train_cfg),
        test_cfg=dict(rpn=det.model.test_cfg),
    )
    build(det)


@pytest.mark.parametrize('classes', [('disc',), ('box',)])
def test_the_first_classes_of_a_dataset_in_another(det, root, classes):
    """`ignore_keys` says that a dataset may have less classes than the first one."""
    first = det.train_dataloader.dataset.dataset
    names = dict(classes=classes)
    det.train_dataloader.dataset = dict(
        type='ConcatDataset',
        ignore_keys=['classes'],
        datasets=[first, dict(first, metainfo=names)],
    )
    if classes == ('disc',):
        build(det)  # label 0 is `disc` in both
    else:
        text = (
            'model.bbox_head.num_classes is 2, but train_dataloader.dataset.datasets.1'
        )
        assert text in problems(det)
