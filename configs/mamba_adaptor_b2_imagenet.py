# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/classifier.py', '_base_/recipes/imagenet_300e.py']

model = dict(backbone=dict(arch='b2'), head=dict(in_channels=768))
