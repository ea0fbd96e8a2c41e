# SPDX-License-Identifier: Apache-2.0
"""Boxes and masks that mmdet leaves out, or that would end a training."""

import copy
import json
import math

import pytest
from helpers.refusals import build, edit
from mmengine.registry import init_default_scope
from torch import nn

from mmadaptor.engine.preflight.content import Part
from mmadaptor.engine.preflight.datasets import build_lazily
from mmadaptor.engine.preflight.objects import (
    box_problem,
    labels_in,
    mask_problem,
    objects_in,
    size_in,
)
from mmadaptor.engine.preflight.report import Report

SQUARE = [[16, 8, 40, 8, 40, 32, 16, 32]]
# 1,200 points of which each one is near.
CIRCLE = [
    float(20 + 10 * part(i * math.pi / 600) + 9000)
    for i in range(1200)
    for part in (math.cos, math.sin)
]
ZIGZAG = [number for i in range(1000) for number in (i % 2 * 1e5, 0)]
HUGE = 10**400


@pytest.fixture
def check(det, root):
    """Writes the annotations, changed, and returns problems, notes and the dataset."""
    cfg = det.train_dataloader.dataset.dataset
    cfg.pipeline[1].with_mask = True
    base = json.loads((root / 'train.json').read_text())
    for annotation in base['annotations']:
        annotation['segmentation'] = SQUARE
    init_default_scope('mmdet')

    def check(*changes, test_mode=False, **change):
        content = copy.deepcopy(base)
        content['annotations'][1].update(change)
        for annotation, other in zip(content['annotations'], changes, strict=False):
            annotation.update(other)
        (root / 'train.json').write_text(json.dumps(content))
        cfg.test_mode = test_mode
        report, dataset = Report(), build_lazily(cfg)
        part = Part('train', dataset, report, nn.Module())
        part.initialize()
        part.check_content()
        return report.text('Training'), report.notes, dataset

    return check


def rle(counts, size=(48, 64)):
    return dict(size=list(size), counts=counts)


@pytest.mark.parametrize(
    'segmentation, says',
    [
        (rle([0, 100], (10, 10)), 'its run lengths have size [10, 10], not [48, 64]'),
        (dict(counts=[1]), 'its run lengths have size [], not [48, 64]'),
        ('text', 'its segmentation is neither polygons nor run lengths'),
        (None, 'it has no segmentation'),
        ([], 'it has no segmentation'),
        ([1, 2, 3], 'its polygons are not lists of numbers below 1e+07'),
        ([['a'] * 6], 'its polygons are not lists of numbers'),
        ([[None] * 6], 'its polygons are not lists of numbers'),
        ([[[1, 2]] * 6], 'its polygons are not lists of numbers'),
        ([[HUGE] * 6], 'its polygons are not lists of numbers'),
        ([[float('nan')] * 6], 'its polygons are not lists of numbers'),
        ([SQUARE[0], [1e9, 1e9, 0, 0, 5, 5]], 'its polygons are not lists of numbers'),
        ([[1e9, 1e9, 1e9, 1e9 + 1, 1e9 + 1, 1e9]], 'are not lists of numbers below'),
        ([ZIGZAG], 'with an outline that is shorter'),
    ],
)
def test_segmentations_that_cannot_be_used(check, root, segmentation, says):
    text, _, _ = check(segmentation=segmentation)
    assert f'1 objects cannot be used (first: {root}/train/1.png, box [16, 8, ' in text
    assert says in text and 'named by train.ann_file' in text


def mask_of(dataset):
    return dataset[1]['data_samples'].gt_instances.masks.masks


@pytest.mark.parametrize(
    'segmentation, area',
    [
        (SQUARE, 576),
        ([*SQUARE, [1, 2], [1, 2, 3]], 576),  # mmdet leaves out the other two
        ([[-1e6, 8, 40, 8, 40, 32, -1e6, 32]], 24 * 40),
        ([[16.5, 8, 40, 8, 40, 32, 16.5, 32]], 576),
        ([*SQUARE, CIRCLE], 576),  # its coordinates have a sum of 2e7
        (rle([0, 48, 3024]), 48),
        (rle([0.0, 48.0, 3024.0]), 48),
        (rle([0, 3072]), 3072),
    ],
)
def test_segmentations_that_mmdet_reads(check, segmentation, area):
    text, _, dataset = check(segmentation=segmentation)
    assert text == ''
    assert abs(int(mask_of(dataset).sum()) - area) <= 24


@pytest.mark.parametrize(
    'counts', [[2**20], [10**12], [-5, 3077], ['x'], '!!!bad', 'oooooo']
)
def test_run_lengths_that_pycocotools_refuses(check, root, counts):
    text, _, _ = check(segmentation=rle(counts))
    assert f'{root}/train/1.png cannot be read: LoadAnnotations: ' in text


@pytest.mark.parametrize(
    'segmentation, notes',
    [
        (rle(None), []),
        (
            [[1, 2], [5] * 7],
            [
                'train: 1 objects have no polygon of three points or more, so that '
                'mmdet ignores them (first: {image})'
            ],
        ),
    ],
)
def test_segmentations_that_mmdet_leaves_out(check, root, segmentation, notes):
    text, told, dataset = check(segmentation=segmentation)
    assert text == '' and len(mask_of(dataset)) == 0
    assert told == [note.format(image=root / 'train' / '1.png') for note in notes]


def test_boxes_and_labels_of_a_form_that_is_not_known():
    """As a dataset and a loader of the user's own may have them."""
    assert box_problem(None, 48, 64) == box_problem(['a'] * 4, 48, 64) == ''
    for things in ([[0, 0, 1, 1]], 'text', 7, [dict(bbox_label=0), None]):
        assert objects_in(dict(instances=things)) == []
    assert labels_in(dict(gt_label=[[0], [1, 2]])) == []
    assert labels_in(dict(gt_label='box')) == []
    assert labels_in(dict(instances=[dict(bbox_label='box')])) == []
    assert labels_in(dict(instances=[dict(bbox_label=3), dict(ignore_flag=1)])) == [3]
    assert size_in(dict(height='48', width='64')) is None


def test_masks_that_no_transform_reads_are_not_checked(check, det):
    del det.train_dataloader.dataset.dataset.pipeline[1]['with_mask']
    assert check(segmentation='text')[0] == ''


def test_usual_annotations_are_not_commented_on(check):
    assert check()[:2] == ('', [])


@pytest.mark.parametrize(
    'bbox', [[16, 8, 60, 24], [-9, 8, 34, 24], [16, 8, float('inf'), 24]]
)
def test_a_box_outside_of_its_image_is_noted(check, bbox):
    """As most are whose file has corners in the place of width and height."""
    text, (note,), _ = check(bbox=bbox)
    assert text == '' and '1 objects have a box that reaches outside of its i' in note
    assert (
        'a bbox of a COCO file is x, y, width, height' in note and '1.png, x1' in note
    )


def test_a_long_list_of_points_that_are_near():
    """Their coordinates have a sum of more than 1e7, and the outline is short."""
    points = [number for i in range(1200) for number in (9000.0 + i % 2, 0.0)]
    assert mask_problem([points], 48, 64) == ''
    assert mask_problem([[*points, 1.0]], 48, 64) == ''  # mmdet leaves it out
    assert 'outline' in mask_problem([[9e6 * (i % 4 == 0) for i in range(8)]], 48, 64)


def test_boxes_by_hand():
    assert box_problem([0, 0, 64, 48], 48, 64) == ''
    assert box_problem([-0.9, -0.9, 64.9, 48.9], 48, 64) == ''
    assert 'outside' in box_problem([0, 0, 65.1, 48], 48, 64)
    assert 'without a positive' in box_problem([5, 5, 5, 9], 48, 64)
    assert 'without a positive' in box_problem([5, 5, float('nan'), 9], 48, 64)
    assert box_problem([0, 0, 99, 99], 0, None) == ''  # unknown
    assert box_problem([30, 30, 99, 5, 0.3], 48, 64) == ''  # rotated


@pytest.mark.parametrize(
    'change',
    [
        dict(area=0),
        dict(iscrowd=1),
        dict(ignore=1),
        dict(bbox=[0.25, 0.2, 0.4, 0.5]),
        dict(image_id=9),
    ],
)
def test_nothing_left_to_train_with(check, change):
    text, _, _ = check(*[change] * 4)
    assert '/train.json: mmdet trains with none of the 4 objects of metainfo' in text
    assert 'bbox and area are in pixels' in text and 'named by train.ann_file' in text
    assert check(*[change] * 4, test_mode=True)[0] == ''
    assert check(*[change] * 3)[0] == ''


@pytest.mark.parametrize('annotations', [[], None])
def test_a_training_without_objects_is_noted(det, root, annotations):
    """Such files hold images of background beside others, or unlabelled ones."""

    def change(content):
        content['annotations'] = annotations
        if annotations is None:
            del content['annotations']

    edit(root / 'train.json', change)
    note = 'train_dataloader.dataset.dataset has no object of metainfo.classes to train'
    assert f'{note} with' in build(det).notes
    loader = det.train_dataloader.dataset.dataset.pipeline[1]
    loader.update(with_bbox=False, with_label=False, with_seg=True)
    assert f'{note} with' not in build(det).notes  # semantic masks are no objects


def test_panoptic_files_have_objects_without_boxes(det, root):
    segment = dict(id=1, category_id=1, iscrowd=0, bbox=[16, 8, 24, 24], area=576)

    def change(content):
        for category in content['categories']:
            category['isthing'] = 1
        content['annotations'] = [
            dict(image_id=i, file_name=f'{i}.png', segments_info=[segment])
            for i in range(4)
        ]

    edit(root / 'train.json', change)
    init_default_scope('mmdet')
    cfg = det.train_dataloader.dataset.dataset
    cfg.type = 'CocoPanopticDataset'
    cfg.metainfo = dict(classes=('disc', 'box'), thing_classes=('disc', 'box'))
    cfg.pipeline.pop(1)
    report, dataset = Report(), build_lazily(cfg)
    part = Part('train', dataset, report, nn.Module())
    part.initialize()
    assert len(part.contents) == 1 and len(dataset) == 4
    part.check_content()
    assert report.text('Training') == ''
