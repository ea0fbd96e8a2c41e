# SPDX-License-Identifier: Apache-2.0
"""The backbone in stock detectors, as in the README."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmadaptor.registry import MODELS

SMALL = dict(embed_dims=16, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0)
DETECTORS = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': dict(
        in_channels=[32, 64, 128], start_level=0
    ),
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py': dict(
        in_channels=[16, 32, 64, 128]
    ),
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': dict(
        in_channels=[32, 64, 128]
    ),
}


def sample():
    data = DetDataSample(
        metainfo=dict(
            img_shape=(64, 64),
            ori_shape=(64, 64),
            pad_shape=(64, 64),
            batch_input_shape=(64, 64),
            scale_factor=(1.0, 1.0),
        )
    )
    from mmdet.structures.mask import BitmapMasks

    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[0, 8:40, 8:48] = 1
    data.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 48.0, 40.0]]),
        labels=torch.tensor([3]),
        masks=BitmapMasks(masks.numpy(), 64, 64),
    )
    return data


@pytest.mark.parametrize('name', DETECTORS)
def test_stock_detector(name):
    torch.manual_seed(0)
    init_default_scope('mmdet')
    cfg = Config.fromfile(Config._get_cfg_path(f'mmdet::{name}', '')[0])
    out_indices = (0, 1, 2, 3) if 'cascade' in name else (1, 2, 3)
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    _delete_=True,
                    type='mmadaptor.MambaAdaptor',
                    arch=SMALL,
                    out_indices=out_indices,
                ),
                neck=DETECTORS[name],
            )
        )
    )
    model = MODELS.build(cfg.model)
    model.init_weights()  # without it DETR reads uninitialized memory
    images = torch.randn(1, 3, 64, 64)
    losses = model.loss(images, [sample()])
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    assert model.backbone.stages[0][0].mixer.A_log.grad.abs().sum() > 0
    # So that a distributed job needs no `find_unused_parameters`.
    assert [
        n for n, p in model.named_parameters() if p.requires_grad and p.grad is None
    ] == []
    (result,) = model.eval().predict(images, [sample()])
    assert result.pred_instances.bboxes.shape[1] == 4
