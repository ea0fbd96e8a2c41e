# SPDX-License-Identifier: Apache-2.0
"""Counts on the `meta` device, where every kind of model has to run."""

import pytest
import torch
from helpers.jobs import CLASSIFIER, DETECTOR, SEGMENTOR, write_config
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmadaptor.analysis.flops import count, input_size
from mmadaptor.errors import InputError


class Tiny(nn.Module):
    """A convolution, then a linear layer on the map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.linear = nn.Linear(8, 7)

    def forward(self, images, samples, mode):
        assert mode == 'tensor'
        return self.linear(self.conv(images))


def test_by_hand():
    modules, ours = count(Tiny().eval(), (4, 8))
    conv, linear = 4 * 8 * 3 * 5 * 9, 5 * 4 * 8 * 7
    assert modules == {'conv': conv, 'linear': linear, 'total': conv + linear}
    assert ours == {}


def build(name):
    """Build a model of mmdet on the `meta` device."""
    init_default_scope('mmdet')
    path = Config._get_cfg_path(f'mmdet::{name}_coco.py', '')[0]
    with torch.device('meta'):
        return MODELS.build(Config.fromfile(path).model).eval()


@pytest.mark.parametrize('stages', [1, 3])
def test_rois_of_a_two_stage_detector(stages):
    """1000 boxes through two linear layers each, 100 masks through 4 convs."""
    kind = 'mask_rcnn/mask-rcnn' if stages == 1 else 'cascade_rcnn/cascade-mask-rcnn'
    modules, _ = count(build(f'{kind}_r50_fpn_1x'), (64, 64))
    boxes = 4 * 80 if stages == 1 else 4  # a cascade has one for all classes
    box = 1000 * (256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (81 + boxes))
    conv = 14 * 14 * 256 * 256 * 9
    mask = 100 * (4 * conv + 14 * 14 * 256 * 256 * 4 + 28 * 28 * 256 * 80)
    assert modules['roi_head'] == stages * (box + mask)


def test_a_detector_that_needs_samples():
    """The decoder of DETR: 100 queries, 4 patches, 6 layers, 256 channels."""
    modules, _ = count(build('detr/detr_r50_8xb2-150e'), (64, 64))
    attention = 4 * 100 * 256**2 + 2 * 100 * 100 * 256
    cross = 2 * (100 + 4) * 256**2 + 2 * 100 * 4 * 256
    feed_forward = 2 * 100 * 256 * 2048
    assert modules['decoder'] == 6 * (attention + cross + feed_forward)


def test_a_detector_of_masks_alone():
    modules, _ = count(build('solo/solo_r50_fpn_1x'), (64, 64))
    assert sum(modules.values()) == 2 * modules['total']


@pytest.mark.parametrize(
    'name, kind',
    [
        ('deformable_detr/deformable-detr_r50_16xb2-50e', 'DeformableDETR'),
        ('sparse_rcnn/sparse-rcnn_r50_fpn_1x', 'SparseRCNN'),
        ('yolact/yolact_r50_1xb8-55e', 'YOLACT'),
    ],
)
def test_a_detector_that_cannot_be_counted(name, kind):
    with pytest.raises(InputError, match=f'{kind} cannot be counted from the size'):
        count(build(name), (64, 64))


@pytest.mark.parametrize('channels', [1, 4, 13])
def test_any_number_of_channels(channels):
    backbone = dict(type='mmadaptor.MambaAdaptor', arch='b0', out_indices=(3,))
    init_default_scope('mmpretrain')

    def stem(**kwargs):
        model = dict(type='ImageClassifier', backbone=dict(backbone, **kwargs))
        return count(MODELS.build(model).eval(), (64, 64))[0]['total']

    # 3 x 3 weights for each more channel, 24 outputs at stride 2.
    outputs = MODELS.build(backbone).downsample_layers[0][0].out_channels
    more = stem(in_channels=channels) - stem()
    assert more == (channels - 3) * 9 * outputs * 32 * 32


class Regrouped(Tiny):
    """As YOLOX's stem: the convolution reads four times the image's channels."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, 5, 3, padding=1)

    def forward(self, images, samples, mode):
        return super().forward(nn.functional.pixel_unshuffle(images, 2), samples, mode)


@pytest.mark.parametrize('channels', [3, 5])
def test_a_stem_that_regroups_pixels(channels):
    modules, _ = count(Regrouped(channels).eval(), (8, 16))
    assert modules['conv'] == 4 * 8 * 4 * channels * 5 * 9


@pytest.mark.parametrize('text', [CLASSIFIER, DETECTOR, SEGMENTOR])
def test_other_models_of_the_toolboxes(text, tmp_path):
    cfg = Config.fromfile(write_config(tmp_path, text, data_root=''))
    init_default_scope(cfg.default_scope)
    modules, _ = count(MODELS.build(cfg.model).eval(), (64, 64))
    assert 0 < modules['backbone'] < modules['total']
    assert sum(modules.values()) == 2 * modules['total']


def test_sizes():
    assert input_size(Config(dict(default_scope='mmseg'))) == (512, 2048)
    assert tuple(input_size(Config(dict(image_size=[28, 32])))) == (28, 32)
    assert input_size(Config(dict(default_scope='mmseg', image_size=96))) == (96, 96)
    with pytest.raises(InputError, match='one of .*mmdet.*got None'):
        input_size(Config({}))
