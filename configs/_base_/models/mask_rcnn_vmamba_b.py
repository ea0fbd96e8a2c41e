# SPDX-License-Identifier: Apache-2.0
_base_ = 'mask_rcnn.py'

model = dict(
    backbone=dict(
        type='mmadaptor.VMamba',
        arch='base',
        drop_path_rate=0.6,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/vmamba_b_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
