# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/upernet.py', '_base_/recipes/ade20k_160k.py']

model = dict(
    backbone=dict(
        arch='b2',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/mamba_adaptor_b2_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
