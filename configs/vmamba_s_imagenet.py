# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/classifier.py', '_base_/recipes/imagenet_300e.py']

model = dict(
    backbone=dict(type='mmadaptor.VMamba', arch='small', drop_path_rate=0.3),
    head=dict(in_channels=768),
)
