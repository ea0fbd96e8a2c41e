# SPDX-License-Identifier: Apache-2.0
"""Numbers of classes by hand: heads, labels and metrics that are stand-ins."""

from types import SimpleNamespace

import pytest
from torch import nn

from mmadaptor.engine.preflight.heads import (
    check_classes,
    check_heads,
    check_metrics,
    ignored_labels,
)
from mmadaptor.engine.preflight.report import Report


def head(num_classes, toolbox='mmseg', **attributes):
    """Return a head of a toolbox, as far as the checks look at it."""
    made = type('Head', (nn.Module,), {'__module__': f'{toolbox}.models'})()
    for name, value in dict(attributes, num_classes=num_classes).items():
        setattr(made, name, value)
    return made


def model_of(**parts):
    model = nn.Module()
    for name, part in parts.items():
        setattr(model, name, part)
    return model


def data(*classes, **attributes):
    return SimpleNamespace(metainfo=dict(classes=classes), **attributes)


def told(model, dataset):
    """Return problems and notes about the heads of a model."""
    report = Report()
    check_heads(model, dataset, 'train', report, dataset)
    return [*report.problems], report.notes


def test_each_head_of_a_cascade_is_compared():
    heads = nn.ModuleList([head(2, 'mmdet'), head(3, 'mmdet')])
    model = model_of(roi_head=model_of(bbox_head=heads))
    assert told(model, data('disc', 'box')) == (
        ['model.roi_head.bbox_head.1.num_classes is 3, but train has 2 classes'],
        [],
    )


@pytest.mark.parametrize('reduced', [False, True])
def test_a_first_name_without_a_label(reduced):
    model = model_of(decode_head=head(1))
    problems, notes = told(model, data('none', 'box', reduce_zero_label=reduced))
    assert (problems == []) == reduced and notes == []


@pytest.mark.parametrize(
    'out_channels, sigmoid, classes, fits',
    [
        (1, True, 'ab', True),
        (1, False, 'ab', False),
        (2, True, 'ab', False),
        (1, True, 'abc', False),
    ],
)
def test_one_output_and_a_threshold(out_channels, sigmoid, classes, fits):
    loss = head(0, use_sigmoid=sigmoid)
    model = model_of(decode_head=head(1, out_channels=out_channels, loss=loss))
    assert (told(model, data(*classes)) == ([], [])) == fits


def test_boxes_of_panoptic_data_are_those_of_its_things():
    model, dataset = model_of(bbox_head=head(1, 'mmdet')), data('disc', 'sky')
    assert told(model, dataset)[0]
    dataset.metainfo['thing_classes'] = ('disc',)
    assert told(model, dataset) == ([], [])


@pytest.mark.parametrize('got, fits', [(None, True), (1, False), (2, True), (3, True)])
def test_one_hot_labels_of_a_model_without_heads(got, fits):
    """Such as a student whose classes are those of its teacher."""
    model = model_of(data_preprocessor=SimpleNamespace(to_onehot=True, num_classes=got))
    assert (told(model, data('disc', 'box')) == ([], [])) == fits


def test_labels_that_heads_ignore():
    assert ignored_labels(nn.Linear(1, 1)) == {255}
    assert ignored_labels(model_of(head=head(2), bbox_head=head(2))) == {255}
    heads = dict(decode_head=head(2, ignore_index=7), auxiliary_head=head(2))
    assert ignored_labels(model_of(**heads)) == {7}


@pytest.mark.parametrize(
    'topk, classes, known, fits',
    [
        (5, 'ab', None, False),
        (2, 'ab', None, True),
        ((1, 5), 'ab', 4, False),
        ((1, 5), 'ab', 5, True),
        (5, '', None, True),  # data without names
    ],
)
def test_guesses_of_an_accuracy(topk, classes, known, fits):
    place = dict(topk=topk, __module__='mmpretrain.evaluation')
    metric, report = type('Accuracy', (), place)(), Report()
    model = model_of(head=head(known)) if known else nn.Module()
    evaluator = SimpleNamespace(metrics=[metric])
    check_metrics(evaluator, data(*classes), 'val_dataloader', report, model)
    assert bool(report) != fits and report.notes == []


@pytest.mark.parametrize(
    'metric, toolbox', [('mmpretrain', 'own'), ('own', 'mmpretrain')]
)
def test_guesses_of_ones_own_are_not_known(metric, toolbox):
    model, report = model_of(head=head(None, toolbox)), Report()
    place = dict(topk=5, __module__=f'{metric}.evaluation')
    evaluator = SimpleNamespace(metrics=[type('Accuracy', (), place)()])
    check_metrics(evaluator, data(*'ab'), 'val_dataloader', report, model)
    assert not report


@pytest.mark.parametrize(
    'others, problem, note',
    [
        ('ab', False, False),
        ('ba', True, False),
        ('ac', False, True),
        ('abc', False, False),
        ('', False, False),
    ],
)
def test_classes_of_two_datasets(others, problem, note):
    report = Report()
    check_classes(('train', data(*'ab')), ('val', data(*others)), report)
    assert (bool(report), bool(report.notes)) == (problem, note)
