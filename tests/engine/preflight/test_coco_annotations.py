# SPDX-License-Identifier: Apache-2.0
"""What mmdet does with annotations that a user would not expect is said."""

import copy
import json

import pytest
from helpers.refusals import build, edit
from mmengine.registry import init_default_scope

from mmadaptor.engine.preflight.coco import check_coco
from mmadaptor.engine.preflight.coco_annotations import kind_of
from mmadaptor.engine.preflight.datasets import build_lazily, check_content, initialize
from mmadaptor.engine.preflight.report import Report

LEFT_OUT = 'are outside of their image, or have an area of 0 or a side below 1 pixel'
SQUARE = [16, 8, 40, 8, 40, 32, 16, 32]


@pytest.fixture
def check(det, root):
    """Writes all annotations, changed, and returns the problems, notes and objects."""
    cfg = det.train_dataloader.dataset.dataset
    base = json.loads((root / 'train.json').read_text())
    init_default_scope('mmdet')

    def check(*changes, test_mode=False, poly2mask=True):
        content = copy.deepcopy(base)
        for annotation, change in zip(content['annotations'], changes, strict=False):
            annotation.update(change)
        (root / 'train.json').write_text(json.dumps(content))
        cfg.test_mode = test_mode
        cfg.pipeline[1].with_mask = any('segmentation' in change for change in changes)
        cfg.pipeline[1].poly2mask = poly2mask
        report, dataset = Report(), build_lazily(cfg)
        check_content('train', dataset, initialize('train', dataset, report), report)
        instances = [
            instance['ignore_flag']
            for i in range(len(dataset))
            for instance in dataset.get_data_info(i)['instances']
        ]
        return report.text('Training').replace(str(root), ''), report.notes, instances

    return check


def test_usual_annotations_are_not_commented_on(check):
    assert check() == ('', [], [0] * 4)


@pytest.mark.parametrize(
    'change, left, says',
    [
        (dict(ignore=1), 3, 'have `ignore`: mmdet trains as if they were background'),
        (dict(area=0), 3, LEFT_OUT),
        (dict(area=-5), 3, LEFT_OUT),
        (dict(bbox=[16, 8, 0.5, 24]), 3, LEFT_OUT),
        (dict(bbox=[16, 8, 24, -24]), 3, LEFT_OUT),
        (dict(bbox=[70, 8, 24, 24]), 3, LEFT_OUT),
        (dict(bbox=[16, 8, 60, 24]), 4, 'have boxes that reach outside of their image'),
        (dict(bbox=[-9, 8, 34, 24]), 4, 'have boxes that reach outside of their image'),
        (dict(area=700), 4, 'have an area that exceeds their box; AP_s, AP_m and AP_l'),
        (
            dict(iscrowd=-1),
            4,
            'have an iscrowd that is neither 0 nor 1; mmdet takes it',
        ),
        (dict(image_id=2, category_id=1, id=9), 4, 'are there twice, with the same im'),
    ],
)
@pytest.mark.parametrize('test_mode', [False, True])
def test_it_is_said_what_becomes_of_an_annotation(check, change, left, says, test_mode):
    text, notes, instances = check(change, test_mode=test_mode)
    assert text == '' and len(instances) == left
    assert [note for note in notes if f'train.json: 1 annotations {says}' in note] == (
        notes
    )
    assert len(notes) == 1 and '(first: annotation ' in notes[0]


@pytest.mark.parametrize(
    'change, kind',
    [
        (dict(bbox=[0, 0, 64, 48]), 'object'),
        (dict(bbox=[-0.9, -0.9, 65.8, 49.8], area=3072), 'object'),
        (dict(bbox=[0, 0, 1, 1], area=1.5), 'object'),  # a mask, rounded up
        (dict(bbox=[0, 0, 1, 1], area=3), 'area'),
        (dict(bbox=[0, 0, 0.99, 5]), 'left_out'),
        (dict(bbox=[64, 0, 5, 5]), 'left_out'),
        (dict(bbox=[63.5, 0, 5, 5], area=25), 'outside'),
        (dict(iscrowd=1), 'crowd'),
        (dict(iscrowd=1, area=0), 'left_out'),
        (dict(iscrowd=1, ignore=True), 'ignore'),
        (dict(ignore=False), 'object'),
    ],
)
def test_kinds_of_annotations(change, kind):
    annotation = dict(bbox=[16, 8, 24, 24], area=576) | change
    assert kind_of(annotation, dict(height=48, width=64)) == kind


@pytest.mark.parametrize(
    'change, says',
    [
        (dict(area=0), '0 have iscrowd, 0 have ignore, and 4 are outside'),
        (dict(iscrowd=1), '4 have iscrowd, 0 have ignore, and 0 are outside'),
        (dict(ignore=1), '0 have iscrowd, 4 have ignore, and 0 are outside'),
        (dict(bbox=[0.25, 0.2, 0.4, 0.5]), 'bbox and area are in pixels'),
    ],
)
def test_nothing_left_to_train_with(check, change, says):
    text, _, _ = check(*[change] * 4)
    assert '/train.json: mmdet trains with none of the 4 objects of metainfo' in text
    assert says in text and 'named by train.ann_file' in text
    assert check(*[change] * 4, test_mode=True)[0] == ''
    assert check(*[change] * 3)[0] == ''


def test_objects_of_images_that_are_not_listed_do_not_count(check):
    text, _, _ = check(*[dict(image_id=9)] * 3, dict(ignore=1))
    assert 'mmdet trains with none of the 1 objects' in text


@pytest.mark.parametrize('annotations', [[], None])
def test_a_training_without_objects_is_noted(det, root, annotations):
    """Such files hold images of background beside others, or unlabelled ones."""

    def change(content):
        content['annotations'] = annotations
        if annotations is None:
            del content['annotations']

    edit(root / 'train.json', change)
    notes = build(det).notes
    assert f'{root}/train.json has no object of metainfo.classes to train with' in notes


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
    report, dataset = Report(), build_lazily(cfg)
    contents = initialize('train', dataset, report)
    assert len(contents) == 1 and len(dataset) == 4
    check_coco('train', dataset, contents[0], report)
    assert report.text('Training') == '' and report.notes == []


@pytest.mark.parametrize('flag', ['iscrowd', 'ignore'])
@pytest.mark.parametrize(
    'value, right',
    [(0, 1), (1, 1), (True, 1), (None, 1), ('0', 0), ('no', 0), ([1], 0)],
)
def test_flags(check, flag, value, right):
    """To Python `'0'` is true: each object would be a crowd."""
    text, _, _ = check({flag: value})
    assert (text == '') == bool(right)
    if not right:
        assert f'1 annotations whose {flag} is no number (first: ann' in text


@pytest.mark.parametrize(
    'mask, says',
    [
        ([[5, 5, 20, 20]], 'so it ignores 1 objects, and 0 lose a part'),
        ([[5, 5]], 'so it ignores 1 objects, and 0 lose a part'),
        ([SQUARE[:7]], 'so it ignores 1 objects, and 0 lose a part'),
        (dict(size=[48, 64], counts=None), 'so it ignores 1 objects, and 0 lose'),
        ([SQUARE, SQUARE[:4]], 'so it ignores 0 objects, and 1 lose a part'),
        ([[x / 64 for x in SQUARE]], '1 annotations have polygons and a bbox of which'),
        ([[16, 8, 40, 8, 40, 8]], '1 annotations have polygons and a bbox of which'),
        ([SQUARE], None),
        (dict(size=[48, 64], counts=[0, 3072]), None),
    ],
)
def test_it_is_said_what_mmdet_reads_of_a_mask(check, mask, says):
    square = dict(segmentation=[SQUARE])
    text, notes, _ = check(dict(segmentation=mask), square, square, square)
    assert text == ''
    if says is None:
        assert notes == []
    else:
        (note,) = notes
        assert '/train.json: ' in note and says in note


def test_corners_for_boxes(check):
    """All within their images, so that only area or polygons tell."""
    corners = dict(bbox=[16, 8, 40, 32])
    text, notes, _ = check(*[corners] * 4)
    (note,) = notes
    assert text == '' and '4 annotations have an area that fits x1, y1, x2, y2' in note
    assert check(corners)[1] == []  # one of four is by chance
    polygons = dict(corners, area=300, segmentation=[SQUARE])
    (note,) = check(*[polygons] * 4)[1]
    assert '4 annotations have polygons and a bbox of which less than half' in note
    assert check(*[dict(bbox=[0, 0, 24, 24])] * 4)[1] == []


def test_run_lengths_where_polygons_are_wanted(check):
    runs = dict(segmentation=dict(size=[48, 64], counts=[0, 3072]))
    text, _, _ = check(*[runs] * 4, poly2mask=False)
    assert 'mmdet ignores all 4 objects' in text and 'poly2mask=False' in text
    square = dict(segmentation=[SQUARE])
    text, notes, _ = check(runs, square, square, square, poly2mask=False)
    assert text == '' and 'so it ignores 1 objects' in notes[0]
