# SPDX-License-Identifier: Apache-2.0
"""A perfect model gets AP 1 from any COCO file that passes; others are refused."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.refusals import build, edit
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from torch import nn

from mmadaptor.engine.preflight.content import Part
from mmadaptor.engine.preflight.data import JobData
from mmadaptor.engine.preflight.datasets import build_leaves
from mmadaptor.engine.preflight.report import Report
from mmadaptor.errors import InputError

SQUARE = [16, 8, 40, 8, 40, 32, 16, 32]
DRAWN = np.zeros((48, 64), np.uint8)
DRAWN[8:32, 16:40] = 1


@pytest.fixture
def val(det, root):
    """The validation file, with masks, which the metric compares."""
    edit(root / 'val.json', annotations(lambda i, a: a.update(segmentation=[SQUARE])))
    det.val_evaluator.metric = ['bbox', 'segm']
    return root / 'val.json'


def prepare(cfg):
    """Build data and metric and check them, as `preflight` does.

    Returns:
        The text of all problems, the notes, the datasets, and the metric.
    """
    init_default_scope('mmdet')
    report, parts = Report(), []
    for key in ('train_dataloader', 'val_dataloader'):
        _, found = build_leaves(cfg[key].dataset, f'{key}.dataset', report)
        parts += [Part(name, leaf, report, nn.Module()) for name, leaf, _ in found]
    for part in parts:
        part.initialize()
    evaluator = Evaluator(copy.deepcopy(cfg.val_evaluator))
    runner = SimpleNamespace(cfg=cfg, model=None, _val_evaluator=evaluator)
    for part in parts:
        part.check_content()
    data = JobData(runner, ['val'], report)
    data.parts = parts
    data._check_coco_metrics('val')
    datasets = {part.split: part.dataset for part in parts}
    return report.text('Training'), report.notes, datasets, evaluator.metrics[0]


def problems(cfg):
    text = prepare(cfg)[0]
    assert text
    return text


def score(cfg):
    """Return the metrics of a model that finds all objects, by the names in training.

    `write_coco` has one object in each image, of `disc` and `box` in turn.
    """
    mask_api = pytest.importorskip('pycocotools.mask')
    text, notes, datasets, metric = prepare(cfg)
    assert text == ''
    dataset, classes = datasets['val'], datasets['train'].metainfo['classes']
    metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        name = ('disc', 'box')[int(info['img_path'].rpartition('/')[2][0]) % 2]
        found = dict(
            bboxes=torch.tensor([[16.0, 8.0, 40.0, 32.0]]),
            scores=torch.ones(1),
            labels=torch.tensor([classes.index(name)]),
            masks=[mask_api.encode(np.asfortranarray(DRAWN))],
        )
        sample = dict(info, ori_shape=(48, 64), pred_instances=found)
        metric.process({}, [sample])
    return metric.evaluate(len(dataset)), notes


def annotations(change):
    return lambda content: [
        change(i, annotation) for i, annotation in enumerate(content['annotations'])
    ]


def rename_ids(part, *references, form):
    """Give other ids to a part of the file, and to what refers to it."""

    def change(content):
        for entry in content[part]:
            entry['id'] = form(entry['id'])
        for annotation in content['annotations']:
            for reference in references:
                annotation[reference] = form(annotation[reference])

    return change


RIGHT = {
    'as written, with an object of id 0': lambda content: None,
    'no iscrowd': annotations(lambda i, a: a.pop('iscrowd')),
    'iscrowd null': annotations(lambda i, a: a.update(iscrowd=None)),
    'iscrowd false': annotations(lambda i, a: a.update(iscrowd=False)),
    'ids of annotations in text': annotations(lambda i, a: a.update(id=f'a{i}')),
    'huge ids of annotations': annotations(lambda i, a: a.update(id=10**400 + i)),
    'ids of images in text': rename_ids('images', 'image_id', form='im-{}'.format),
    'large ids of images': rename_ids('images', 'image_id', form=lambda i: 2**62 + i),
    'ids of categories in text': rename_ids(
        'categories', 'category_id', form='c{}'.format
    ),
    'other ids of categories': rename_ids(
        'categories', 'category_id', form=lambda i: 99 - i
    ),
    'a category of its own': lambda c: c['categories'].insert(
        1, dict(id=70, name='ring')
    ),
    'a first polygon of two points': annotations(
        lambda i, a: a.update(segmentation=[[16, 8, 20, 9], SQUARE])
    ),
    'a first polygon of nothing': annotations(
        lambda i, a: a.update(segmentation=[[], [16, 8], SQUARE])
    ),
    'run lengths': annotations(
        lambda i, a: a.update(
            segmentation=dict(size=[48, 64], counts=runs(DRAWN.T.ravel()))
        )
    ),
    'annotations of an image that is not listed': lambda c: c['annotations'].append(
        dict(c['annotations'][0], id=77, image_id=99)
    ),
    'sizes that are floats': lambda c: [
        image.update(height=48.0, width=64.0) for image in c['images']
    ],
    'no info, no licenses, a supercategory': lambda c: [
        category.update(supercategory='shape') for category in c['categories']
    ],
}


def runs(bits):
    """Return run lengths that start with zeros."""
    edges = np.flatnonzero(np.diff(bits.astype(int), prepend=0)).tolist()
    return np.diff([0, *edges, len(bits)]).tolist()


@pytest.mark.parametrize('change', RIGHT.values(), ids=RIGHT)
def test_a_perfect_model_gets_all_points(det, val, change):
    edit(val, change)
    result, _ = score(det)
    assert result['coco/bbox_mAP'] == result['coco/segm_mAP'] == 1


def test_the_runner_checks_and_completes_the_file(det, val):
    edit(val, annotations(lambda i, a: a.pop('iscrowd')))
    (metric,) = build(det).val_evaluator.metrics
    found = metric._coco_api.dataset['annotations']
    assert [a['iscrowd'] for a in found] == [0] * 4
    assert [a['id'] for a in found] == list(metric._coco_api.anns) == [1, 2, 3, 4]
    edit(val, annotations(lambda i, a: a.pop('segmentation')))
    with pytest.raises(InputError, match='objects have no mask that pycocotools can'):
        build(det)


def test_other_labels_than_the_training_has_get_none(det, root, val):
    """What `score` would give if the order of the categories were not checked."""
    edit(val, annotations(lambda i, a: a.update(category_id=4 - 3 * (i % 2))))
    assert score(det)[0]['coco/bbox_mAP'] == 0


NONE = 'objects have no mask that pycocotools can compare with (first: one of'
WRONG = {
    'two points': ([[5, 5, 20, 20]], 'it has no polygon of three points or more'),
    'no point': ([[]], 'it has no polygon of three points or more'),
    'a flat list': ([5, 5, 20, 5, 20, 20], 'its polygons are not lists of numbers'),
    'null': (None, 'it has no segmentation'),
    'text': ('x', 'its segmentation is neither polygons nor run lengths'),
    'another size': (
        dict(size=[64, 48], counts=[0, 3072]),
        'its run lengths have size [64, 48], not [48, 64]',
    ),
    'no size': (dict(counts=[5]), 'its run lengths have size [], not'),
}


@pytest.mark.parametrize('mask, says', WRONG.values(), ids=WRONG)
def test_masks_that_pycocotools_cannot_compare(det, val, mask, says):
    edit(val, lambda c: c['annotations'][1].update(segmentation=mask))
    text = problems(det)
    assert f'{val}: 1 {NONE}' in text and says in text
    assert 'named by val_evaluator.ann_file' in text
    det.val_evaluator.metric = 'bbox'
    assert prepare(det)[0] == ''  # it reads none of it


def test_no_masks_are_needed_for_boxes(det, val):
    edit(val, annotations(lambda i, a: a.pop('segmentation')))
    assert f'{val}: 4 {NONE}' in problems(det)
    det.val_evaluator.metric = 'bbox'
    assert prepare(det)[0] == ''


def test_masks_of_other_categories_are_not_compared(det, root, val):
    def change(content):
        content['categories'].append(dict(id=9, name='ring'))
        content['annotations'].append(
            dict(content['annotations'][0], id=9, category_id=9, segmentation=None)
        )

    edit(val, change)
    assert score(det)[0]['coco/segm_mAP'] == 1


@pytest.mark.parametrize('key', ['test', 'val'])
def test_results_are_written_without_annotations(det, val, key, tmp_path):
    """As of COCO's image_info_test-dev2017.json."""
    edit(val, lambda content: content.pop('annotations'))
    det[f'{key}_evaluator'].update(
        metric='bbox', format_only=True, outfile_prefix=str(tmp_path / 'results')
    )
    if key == 'val':
        assert score(det)[0] == {}
        results = json.loads((tmp_path / 'results.bbox.json').read_text())
        assert [r['category_id'] for r in results] == [1, 4, 1, 4]
    else:
        build(det, 'test')


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c.pop('annotations'),
        lambda c: c.update(annotations=[]),
        annotations(lambda i, a: a.update(iscrowd=1)),
        annotations(lambda i, a: a.update(image_id=9)),
    ],
)
def test_nothing_to_compare_with(det, val, change):
    edit(val, change)
    text = problems(det)
    assert f'{val} has no object to compare with' in text and 'format_only' in text


class TestAnotherFileThanThatOfTheDataset:
    """As the file of the base config beside a dataset of one's own."""

    @pytest.fixture
    def other(self, det, val):
        other = val.with_name('other.json')
        other.write_text(val.read_text())
        det.val_evaluator.ann_file = str(other)
        return other

    def test_the_same_passes(self, det, other):
        assert score(det)[0]['coco/bbox_mAP'] == 1

    def test_another_folder_and_suffix_pass(self, det, other):
        def change(content):
            for i, image in enumerate(content['images']):
                image['file_name'] = f'photos\\{i}.jpg'

        edit(other, change)
        assert score(det)[0]['coco/bbox_mAP'] == 1

    @pytest.mark.parametrize(
        'change, says',
        [
            (lambda c: c['categories'].reverse(), 'lists its categories in another o'),
            (lambda c: c['categories'].pop(), 'has no category box (1 of the 2'),
            (
                lambda c: c['images'].pop(),
                "first: id 3 is ('3', 48, 64) in the dataset and not in the file",
            ),
            (
                lambda c: c['images'][1].update(file_name='x.png'),
                'does not have 1 of 4 images of the dataset (first: id 1 is (',
            ),
            (lambda c: c['images'][1].update(height=40), 'does not have 1 of 4 images'),
        ],
    )
    def test_what_does_not_fit_is_told(self, det, other, change, says):
        edit(other, change)
        text = problems(det)
        assert str(other) in text and says in text
        assert 'named by val_evaluator.ann_file' in text

    def test_images_that_the_dataset_leaves_out_are_noted(self, det, other):
        det.val_dataloader.dataset.indices = 2
        result, notes = score(det)
        assert result['coco/bbox_mAP'] < 0.6
        assert any(f'{other} has 2 images that the dataset has not' in n for n in notes)


def test_files_whose_categories_mmdet_sorts(det, root, val):
    """As of Objects365, whose metric must sort them, too."""
    for split in ('train', 'val'):
        edit(root / f'{split}.json', lambda content: content['categories'].reverse())
    det.train_dataloader.dataset.dataset.type = 'Objects365V1Dataset'
    det.val_dataloader.dataset.type = 'Objects365V1Dataset'
    det.val_evaluator.sort_categories = True
    assert score(det)[0]['coco/bbox_mAP'] == 1
    det.val_evaluator.sort_categories = False
    text = problems(det)
    assert f'{val} lists its categories in another order' in text
    assert 'named by val_evaluator.ann_file' in text


def test_two_files_of_one_metric_must_not_share_ids(det, val):
    """They number their images from 0, and results go by that number."""
    dataset = det.val_dataloader.dataset
    det.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset, dataset])
    text = problems(det)
    assert 'several images of one id (8 images, 4 ids)' in text


def test_a_metric_for_each_dataset_is_left_alone(det, val):
    """mmdet's evaluator of several datasets gives each metric its own results."""
    dataset = det.val_dataloader.dataset
    det.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset, dataset])
    metric = dict(det.val_evaluator, metric='bbox')
    det.val_evaluator = dict(
        type='MultiDatasetsEvaluator',
        metrics=[metric, metric],
        dataset_prefixes=['a', 'b'],
    )
    build(det)


@pytest.mark.parametrize(
    'segmentation, area',
    [
        ([[16, 8, 40, 32]], None),
        ([[16, 8, 40, 32, 5]], 0),
        ([[16, 8, 40, 8, 40, 32]], 288),  # a triangle
        ([SQUARE, [1, 2]], 576),
    ],
)
def test_polygons_of_two_points(det, val, segmentation, area):
    """One that pycocotools cannot read ends the evaluation, after the training."""

    def change(content):
        content['annotations'][0]['segmentation'] = segmentation

    edit(val, change)
    text, notes, _, metric = prepare(det)
    if area is None:
        assert 'one of 0.png: it has no polygon of three points or more' in text
        return
    assert text == ''
    drawn = metric._coco_api.annToMask(metric._coco_api.dataset['annotations'][0])
    assert abs(int(drawn.sum()) - area) <= 24
    assert any('pycocotools reads another mask' in note for note in notes) == (not area)


def test_a_metric_of_ones_own_compares_as_it_likes(det, val):
    """Here with nothing: the order of its file is its own matter."""
    from mmdet.evaluation import CocoMetric
    from mmengine.registry import METRICS

    class OwnMetric(CocoMetric):
        def compute_metrics(self, results):
            return {}

    METRICS.register_module('OwnMetric', module=OwnMetric, force=True)
    other = val.with_name('other.json')
    other.write_text(val.read_text())
    edit(other, lambda content: content['categories'].reverse())
    det.val_evaluator.update(type='OwnMetric', ann_file=str(other))
    build(det)
