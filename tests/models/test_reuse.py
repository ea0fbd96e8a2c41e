# SPDX-License-Identifier: Apache-2.0
"""The backbones where a toolbox expects its own."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmpretrain.models import SimMIM
from mmpretrain.structures import DataSample

from mmadaptor.models import Vim, VMamba
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


STAGES = dict(embed_dims=16, depths=(1, 1, 1), d_state=1, ssm_ratio=1.0)
BLOCKS = dict(arch=dict(embed_dims=16, depth=3), img_size=32)


@pytest.mark.parametrize('out_indices', [-1, 2, (-1,), (0, -1), (-3, 1)], ids=str)
def test_out_indices_and_out_channels_of_stages(out_indices):
    model = VMamba(STAGES, out_indices=out_indices).eval()
    assert model.embed_dims == 16
    images = torch.randn(1, 3, 32, 32)
    maps = model(images)
    assert model.out_channels == tuple(m.shape[1] for m in maps)
    numbers = [out_indices] if isinstance(out_indices, int) else out_indices
    assert model.out_indices == tuple(i % 3 for i in numbers)
    positive = VMamba(STAGES, out_indices=model.out_indices).eval()
    positive.load_state_dict(model.state_dict())
    assert all(map(torch.equal, positive(images), maps))


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
def test_out_indices_and_out_channels_of_blocks(out_type):
    images = torch.randn(1, 3, 32, 32)
    model = Vim(**BLOCKS, out_type=out_type, out_indices=-1).eval()
    assert model.embed_dims == 16 and model.out_indices == (2,)
    assert model.out_channels == tuple(m.shape[1] for m in model(images)) == (16,)
    assert Vim(**BLOCKS, out_indices=(0, -1, 2)).out_channels == (16,) * 3


@pytest.mark.parametrize(
    'model', [VMamba(STAGES, out_indices=(2,)), Vim(**BLOCKS)], ids=['VMamba', 'Vim']
)
def test_the_mask_of_masked_image_modeling(model):
    """mmpretrain's SimMIM trains with a mask, and extracts features with None."""
    model.eval()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(model(images, mask=None)[0], model(images)[0])
    init_default_scope('mmpretrain')
    simmim = SimMIM(
        backbone=dict(type='mmadaptor.VMamba', arch=STAGES, out_indices=(2,)),
        neck=dict(
            type='mmpretrain.SimMIMLinearDecoder', in_channels=64, encoder_stride=16
        ),
        head=dict(
            type='mmpretrain.SimMIMHead',
            patch_size=4,
            loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1'),
        ),
    )
    simmim.backbone = model
    assert torch.equal(simmim.extract_feat(images)[0], model(images)[0])
    sample = DataSample()
    sample.mask = torch.ones(8, 8)
    message = f'`mask` of {type(model).__name__} must be None, .*SimMIM.*got a Tensor'
    with pytest.raises(ValueError, match=message):
        simmim.loss(images, [sample])
