# SPDX-License-Identifier: Apache-2.0
"""Configs of other packages by `PACKAGE::`, once mmadaptor is imported."""

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

import mmadaptor  # noqa: F401


@pytest.mark.parametrize(
    'base, key, value',
    [
        ('mmseg::_base_/default_runtime.py', 'default_scope', 'mmseg'),
        ('mmseg::_base_/models/upernet_r50.py', 'model.backbone.type', 'ResNetV1c'),
        ('mmadaptor::_base_/models/upernet.py', 'model.decode_head.type', 'UPerHead'),
        (
            'mmadaptor::_base_/../mask_rcnn_mamba_adaptor_b1_coco.py',
            'model.backbone.arch',
            'b1',
        ),
        (
            'mmadaptor::tuning/vmamba_t_full_cub.py',
            'model.backbone.type',
            'mmadaptor.VMamba',
        ),
    ],
)
def test_a_base_of_a_package_is_found(base, key, value, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {base!r}\n')
    node = Config.fromfile(path)
    for part in key.split('.'):
        node = node[part]
    assert node == value
    assert get_config(base).keys() == Config.fromfile(path).keys()
