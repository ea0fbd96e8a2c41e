# SPDX-License-Identifier: Apache-2.0
"""Subsets of class folders."""

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from studies.some_classes import SomeClasses


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for name in ('bag', 'coat', 'dress'):
        (root / name).mkdir()
        for i in range(6):
            cv2.imwrite(str(root / name / f'{i}.png'), np.zeros((2, 2), np.uint8))
    return root


def samples(root, **arguments):
    dataset = SomeClasses(data_root=str(root), **arguments)
    found = [dataset.get_data_info(i) for i in range(len(dataset))]
    return dataset, [
        (*s['img_path'].removeprefix(f'{root}/').split('/'), int(s['gt_label']))
        for s in found
    ]


def test_labels_are_in_the_order_of_the_classes(root):
    dataset, found = samples(root, classes=('dress', 'bag'))
    assert dataset.metainfo['classes'] == ('dress', 'bag')
    assert found == [
        (name, f'{i}.png', label)
        for label, name in enumerate(('dress', 'bag'))
        for i in range(6)
    ]


def test_a_draw_depends_on_the_seed(root):
    draws = [
        samples(root, classes=('coat', 'bag'), per_class=3, seed=seed)[1]
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    for drawn in draws:
        assert len({*drawn}) == 6
        assert [label for *_, label in drawn] == [0] * 3 + [1] * 3


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(classes=('coat', 'hat')), r"has \['bag', 'coat', 'dress'\], got 'hat'"),
        (
            dict(classes=('coat',), per_class=7),
            '`per_class` must be at most 6, .*got 7',
        ),
    ],
)
def test_what_is_not_there(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        SomeClasses(data_root=str(root), **arguments)
