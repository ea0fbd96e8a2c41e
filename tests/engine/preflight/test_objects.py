# SPDX-License-Identifier: Apache-2.0
"""Boxes and masks that would end a training, or train with something else."""

import copy
import json

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmadaptor.engine.preflight.datasets import build_lazily, check_content, initialize
from mmadaptor.engine.preflight.objects import decode_counts
from mmadaptor.engine.preflight.report import Report

SQUARE = [[16, 8, 40, 8, 40, 32, 16, 32]]
HUGE = 10**400


@pytest.fixture
def check(det, root):
    """Writes the annotations, changed, and returns the report and the dataset."""
    cfg = det.train_dataloader.dataset.dataset
    cfg.pipeline[1].with_mask = True
    base = json.loads((root / 'train.json').read_text())
    for annotation in base['annotations']:
        annotation['segmentation'] = SQUARE
    init_default_scope('mmdet')

    def check(**changes):
        content = copy.deepcopy(base)
        content['annotations'][1].update(changes)
        (root / 'train.json').write_text(json.dumps(content))
        report, dataset = Report(), build_lazily(cfg)
        check_content('train', dataset, initialize('train', dataset, report), report)
        return report.text('Training'), dataset

    return check


def rle(counts, size=(48, 64)):
    return dict(size=list(size), counts=counts)


@pytest.mark.parametrize(
    'segmentation, says',
    [
        (rle([1, 2]), 'its run lengths add up to 3, not 48 x 64'),
        (rle([1, 2**20]), 'its run lengths add up to 1048577, not 48 x 64'),
        (rle([10**12]), 'its run lengths add up to 1000000000000'),
        (rle([-5, 3077]), 'its run lengths add up to 3072'),
        (rle([0, 100], (10, 10)), 'its run lengths have size [10, 10], its image [48'),
        (rle(['x']), 'its run lengths cannot be decoded'),
        (rle([None]), 'its run lengths cannot be decoded'),
        (rle('!!!bad'), 'its run lengths cannot be decoded'),
        (rle('oooooo'), 'its run lengths cannot be decoded'),
        (rle('12'), 'its run lengths add up to 3'),
        ('text', 'its segmentation is neither polygons nor run lengths'),
        (None, 'it has no segmentation'),
        ([], 'it has no segmentation'),
        ([1, 2, 3], 'its polygon is not a list of numbers'),
        ([['a'] * 6], 'its polygon is not a list of numbers'),
        ([[None] * 6], 'its polygon is not a list of numbers'),
        ([[[1, 2]] * 6], 'its polygon is not a list of numbers'),
        ([[HUGE] * 6], 'its polygon is not a list of numbers'),
        ([[float('nan')] * 6], 'its polygon has NaN or infinite numbers'),
        ([SQUARE[0], [1e9, 1e9, 0, 0, 5, 5]], 'an outline of 2e+09 pixels'),
        ([[1e300, 1e300, 0, 0, 5, 5]], 'an outline of 2e+300 pixels'),
        ([[1e9] * 6], 'an outline of 0 pixels'),
    ],
)
def test_segmentations_that_cannot_be_used(check, root, segmentation, says):
    text, _ = check(segmentation=segmentation)
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
        (rle([0, 48, 3024]), 48),
        (rle([0.0, 48.0, 3024.0]), 48),
        (rle([0, 3072]), 3072),
    ],
)
def test_segmentations_that_mmdet_reads(check, segmentation, area):
    text, dataset = check(segmentation=segmentation)
    assert text == ''
    assert abs(int(mask_of(dataset).sum()) - area) <= 24


@pytest.mark.parametrize('segmentation', [rle(None), dict(counts=[1]), [[1, 2]]])
def test_segmentations_that_mmdet_leaves_out(check, segmentation):
    text, dataset = check(segmentation=segmentation)
    assert text == '' and len(mask_of(dataset)) == 0


def test_masks_that_no_transform_reads_are_not_checked(check, det):
    del det.train_dataloader.dataset.dataset.pipeline[1]['with_mask']
    assert check(segmentation='text')[0] == ''


@pytest.mark.parametrize(
    'changes',
    [
        dict(bbox=[float('nan'), 8, 24, 24]),  # mmdet leaves it out silently
        dict(bbox=[16, 8, float('inf'), 24]),  # and trains with this one
        dict(bbox=[16, 8, HUGE, 24]),
        dict(area=float('nan')),
    ],
)
def test_numbers_that_are_not_finite(check, root, changes):
    text, _ = check(**changes)
    assert f'{root}/train.json has 1 annotations whose bbox or area is not' in text
    assert '(first: annotation 1, bbox [' in text


def test_large_numbers_that_mmdet_reads(check):
    assert check(bbox=[16, 8, 1e30, 24], id=10**300)[0] == ''


def test_compressed_run_lengths_by_pycocotools():
    mask_api = pytest.importorskip('pycocotools.mask')
    random = np.random.default_rng(0)
    for share in (0, 0.01, 0.5, 1):
        mask = (random.random((37, 53)) < share).astype(np.uint8)
        text = mask_api.encode(np.asfortranarray(mask))['counts'].decode()
        counts = decode_counts(text)
        runs = [np.full(count, i % 2) for i, count in enumerate(counts)]
        np.testing.assert_array_equal(np.concatenate(runs).reshape(53, 37).T, mask)
