# SPDX-License-Identifier: Apache-2.0
# The neck computes a pyramid from the single map of the plain backbone.
_base_ = ['_base_/models/mask_rcnn.py', '_base_/recipes/coco_1x.py']

model = dict(
    backbone=dict(
        type='mmadaptor.Vim',
        arch='tiny',
        out_type='featmap',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/vim_ti_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(_delete_=True, type='mmadaptor.SimpleFeaturePyramid', in_channels=192),
)
