# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/classifier.py', '_base_/recipes/booster_imagenet.py']

model = dict(
    backbone=dict(
        type='mmadaptor.VMamba',
        arch='tiny',
        adaptors=dict(temporal=dict(), spatial=dict()),
    ),
    head=dict(in_channels=768),
)
load_from = 'checkpoints/vmamba_t_imagenet.pth'
