# SPDX-License-Identifier: Apache-2.0
# The neck computes a pyramid from the last map of the plain backbone, given four times.
_base_ = ['_base_/models/upernet.py', '_base_/recipes/ade20k_160k.py']

model = dict(
    backbone=dict(
        type='mmadaptor.Vim',
        arch='tiny',
        out_type='featmap',
        out_indices=(-1, -1, -1, -1),
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/vim_ti_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=192,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192),
)
