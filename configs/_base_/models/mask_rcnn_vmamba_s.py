# SPDX-License-Identifier: Apache-2.0
_base_ = 'mask_rcnn.py'

model = dict(
    backbone=dict(
        type='mmadaptor.VMamba',
        arch='small',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/vmamba_s_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
