# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/upernet.py', '_base_/recipes/ade20k_160k.py']

model = dict(
    backbone=dict(
        arch='b1',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/mamba_adaptor_b1_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    decode_head=dict(in_channels=[48, 96, 192, 384]),
    auxiliary_head=dict(in_channels=192),
)
