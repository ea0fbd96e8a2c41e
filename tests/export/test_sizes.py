# SPDX-License-Identifier: Apache-2.0
"""Dense models of the toolboxes as programs that serve every size from a smallest one."""

import pytest
import torch
from helpers.jobs import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.testing import assert_close

from mmadaptor.errors import InputError
from mmadaptor.export.openmmlab import Exported, task_of
from mmadaptor.export.program import export_program
from mmadaptor.registry import MODELS

ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0)
MAPS = dict(type='mmadaptor.VMamba', arch=ARCH)
PATCHES = dict(
    type='mmadaptor.Vim', out_type='featmap', arch=dict(embed_dims=8, depth=1)
)
CHANNELS = dict(in_channels=[8, 16, 32, 64])
MODELS_OF = {
    'configs/mask_rcnn_vmamba_t_coco.py': (MAPS, CHANNELS),
    'configs/mask_rcnn_vim_ti_coco.py': (PATCHES, dict(in_channels=8)),
    'configs/upernet_vim_ti_ade20k.py': (PATCHES, dict(embed_dim=8)),
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': (MAPS, CHANNELS),
}
P7 = [*MODELS_OF][-1]


def build(name):
    """A small version of a config's model."""
    backbone, neck = MODELS_OF[name]
    path = Config._get_cfg_path(name, '')[0] if '::' in name else ROOT / name
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    model = cfg.model
    model.neck.update(neck)
    if 'decode_head' in model:
        backbone = dict(backbone, out_indices=(0,) * 4)
        model.decode_head.update(in_channels=[8] * 4, channels=8)
        model.auxiliary_head = None
    if 'roi_head' in model:
        model.roi_head.bbox_head.fc_out_channels = 8
    model.backbone = dict(backbone)
    torch.manual_seed(0)
    built = MODELS.build(model)
    return Exported(built, task_of(built)).eval().requires_grad_(False)


@pytest.mark.parametrize(
    'name, smallest', zip(MODELS_OF, [65, 65, 65, 129], strict=True)
)
def test_a_program_serves_every_size_from_the_smallest(name, smallest):
    model = build(name)
    program, found = export_program(model, (130, 160))
    assert found == smallest
    for shape in ((1, 3, smallest, smallest + 62), (3, 3, 193, smallest)):
        images = torch.randn(shape)
        pairs = zip(program.module()(images), model(images), strict=True)
        for ours, theirs in pairs:
            assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_images_that_are_too_small_for_a_model_are_named():
    with pytest.raises(
        InputError, match=r'any size from 65 x 65 .*\(--size\).*--fixed'
    ):
        export_program(build(P7), (96, 128))
    program, smallest = export_program(build(P7), (96, 128), dynamic=False)
    assert smallest is None and program.module()(torch.zeros(1, 3, 96, 128))
