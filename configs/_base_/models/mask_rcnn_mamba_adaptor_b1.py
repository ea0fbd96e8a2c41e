# SPDX-License-Identifier: Apache-2.0
_base_ = 'mask_rcnn.py'

model = dict(
    backbone=dict(
        arch='b1',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/mamba_adaptor_b1_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(in_channels=[48, 96, 192, 384]),
)
