# SPDX-License-Identifier: Apache-2.0
"""The neck: sizes, normalization and locality of the maps."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from test_reuse import sample

from mmadaptor.models import SimpleFeaturePyramid
from mmadaptor.models.necks.simple_feature_pyramid import HalfPool
from mmadaptor.registry import MODELS


def test_sizes():
    maps = SimpleFeaturePyramid(16, 8, num_outs=6)(
        [torch.zeros(1), torch.randn(2, 16, 5, 6)]
    )
    assert [tuple(m.shape[1:]) for m in maps] == [
        (8, 20, 24),
        (8, 10, 12),
        (8, 5, 6),
        (8, 3, 3),
        (8, 2, 2),
        (8, 1, 1),
    ]
    assert all(m.is_contiguous() for m in maps)


@pytest.mark.parametrize('size', [(1, 1), (1, 4), (5, 6), (7, 3), (8, 8)])
def test_the_half_map_is_that_of_ceil_mode(size):
    x = torch.randn(2, 3, *size, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    ours, theirs = HalfPool()(x), torch.nn.MaxPool2d(2, ceil_mode=True)(y)
    assert torch.equal(ours, theirs)
    for out in (ours, theirs):
        out.square().sum().backward()
    assert torch.equal(x.grad, y.grad)


def test_pixels_are_normalized():
    maps = SimpleFeaturePyramid(16, 8)([torch.randn(1, 16, 4, 4) * 9])
    for m in maps[:4]:
        torch.testing.assert_close(
            m.mean(1), torch.zeros_like(m[:, 0]), atol=1e-5, rtol=0
        )
        assert m.std(1, unbiased=False).max() < 1.01


def test_what_happens_in_a_corner_stays_there():
    neck, x = SimpleFeaturePyramid(16, 8).eval(), torch.zeros(1, 16, 8, 8)
    quiet = neck([x])
    x[..., 0, 0] = 1
    for before, after, scale in zip(quiet, neck([x]), (4, 2, 1, 0.5)):
        changed = (after - before).abs().sum(1)[0].nonzero()
        assert len(changed) and changed.max() <= scale + 1


def test_in_a_detector():
    """Vim, this neck and mmdet's Mask R-CNN: losses and gradients."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    cfg = Config.fromfile(
        Config._get_cfg_path('mmdet::_base_/models/mask-rcnn_r50_fpn.py', '')[0]
    )
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    _delete_=True,
                    type='mmadaptor.Vim',
                    out_type='featmap',
                    img_size=64,
                    arch=dict(embed_dims=16, depth=2),
                    adaptors=dict(temporal={}, spatial={}),
                ),
                neck=dict(
                    _delete_=True, type='mmadaptor.SimpleFeaturePyramid', in_channels=16
                ),
            )
        )
    )
    model = MODELS.build(cfg.model)
    losses = model.loss(torch.randn(1, 3, 64, 64), [sample()])
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    assert model.backbone.layers[0].mixer.A_log.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(in_channels=6), '`in_channels` must be a multiple of 4, got 6'),
        (
            dict(in_channels=8, num_outs=3),
            '`num_outs` must be an integer of 4 or more, got 3',
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**arguments)
