# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/upernet.py', '_base_/recipes/ade20k_160k.py']

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
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
