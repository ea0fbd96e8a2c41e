# SPDX-License-Identifier: Apache-2.0
"""Configs of all toolboxes whose data is there and whole."""

import pytest
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    SEGMENTOR,
    write_coco,
    write_config,
    write_labels,
)
from mmengine.config import Config


@pytest.fixture
def root(tmp_path):
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    return root


def read(toolbox, root, folder, text, name):
    pytest.importorskip(toolbox)
    return Config.fromfile(write_config(folder, text, name, data_root=str(root)))


@pytest.fixture
def det(root, tmp_path):
    return read('mmdet', root, tmp_path, DETECTOR, 'det.py')


@pytest.fixture
def seg(root, tmp_path):
    return read('mmseg', root, tmp_path, SEGMENTOR, 'seg.py')


@pytest.fixture
def cls(root, tmp_path):
    return read('mmpretrain', root, tmp_path, CLASSIFIER, 'cls.py')
