# SPDX-License-Identifier: Apache-2.0
"""`CocoMetric` without `ann_file`, which compares with the objects of the dataset."""

import pytest
from helpers.refusals import edit
from test_coco_metric import (
    DRAWN,
    SQUARE,
    WRONG,
    annotations,
    prepare,
    problems,
    runs,
    score,
)
from test_coco_metric import val as val  # a fixture


@pytest.fixture
def no_file(det, val):
    det.val_evaluator.pop('ann_file')
    return det


RUNS = dict(size=[48, 64], counts=runs(DRAWN.T.ravel()))


@pytest.mark.parametrize('mask', [[SQUARE], [SQUARE, [16, 8], [16, 8, 20, 9]], RUNS])
def test_a_perfect_model_gets_all_points(no_file, val, mask):
    edit(val, annotations(lambda i, a: a.update(segmentation=mask)))
    result, _ = score(no_file)
    assert result['coco/bbox_mAP'] == result['coco/segm_mAP'] == 1


# Of lists, pycocotools looks at the first part: with the file they are left out.
FIRST = {
    'a first polygon of two points': ([[16, 8, 20, 9], SQUARE], 'its polygons have'),
    'a first polygon of nothing': ([[], SQUARE], 'its polygons have less than three'),
}


@pytest.mark.parametrize(
    'mask, says', [*WRONG.values(), *FIRST.values()], ids=[*WRONG, *FIRST]
)
def test_masks_that_pycocotools_cannot_compare(no_file, val, mask, says):
    edit(val, lambda c: c['annotations'][1].update(segmentation=mask))
    text = problems(no_file)
    assert 'the dataset: 1 objects have no mask that pycocotools can compare' in text
    assert says in text and '1.png' in text and 'named by val_evaluator' in text
    no_file.val_evaluator.metric = 'bbox'
    assert prepare(no_file)[0] == ''  # it reads none of it


@pytest.mark.parametrize('change', [lambda a: a.update(iscrowd=1), lambda a: a.clear()])
def test_nothing_to_compare_with(no_file, val, change):
    def empty(content):
        for annotation in content['annotations']:
            change(annotation)
        content['annotations'] = list(filter(None, content['annotations']))

    edit(val, empty)
    assert 'CocoMetric has no object to compare with' in problems(no_file)
    no_file.val_evaluator.update(format_only=True, outfile_prefix='x')
    assert prepare(no_file)[0] == ''
