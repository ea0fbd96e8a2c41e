# SPDX-License-Identifier: Apache-2.0
import numpy as np

from mmadaptor.datasets.labels import (
    CLASSES,
    PALETTE,
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    annotate,
    instances,
    run_lengths,
)
from mmadaptor.datasets.scene import SIZE


def test_run_lengths():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert run_lengths(mask) == [2, 1, 1, 2]
    assert run_lengths(~mask) == [0, 2, 1, 1, 2]


def test_an_annotation_by_hand():
    visible = np.zeros((SIZE, SIZE), bool)
    visible[3:5, 2] = True
    label = annotate(visible, image_id=7, category_id=2)
    assert label == dict(
        image_id=7,
        category_id=2,
        area=2,
        bbox=[2, 3, 1, 2],
        iscrowd=0,
        segmentation=dict(
            size=[SIZE, SIZE], counts=[2 * SIZE + 3, 2, SIZE * (SIZE - 2) - 5]
        ),
    )


def test_ids_count_over_images():
    content = instances('', 1, [[dict(image_id=0)], [], [dict(image_id=2)] * 2])
    assert [image['id'] for image in content['images']] == [0, 1, 2]
    assert [(label['id'], label['image_id']) for label in content['annotations']] == [
        (1, 0),
        (2, 2),
        (3, 2),
    ]
    assert [c['name'] for c in content['categories']] == list(CLASSES)


def test_names_and_colors_fit():
    assert list(CLASSES) == sorted(CLASSES)
    assert len(set(PALETTE)) == len(CLASSES) == 6
    assert ('background', *CLASSES) == SEGMENTATION_CLASSES
    assert len(SEGMENTATION_PALETTE) == 7
