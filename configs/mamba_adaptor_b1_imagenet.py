# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/classifier.py', '_base_/recipes/imagenet_300e.py']

# The recipe of VMamba gives drop path rates for T, S and B. This rate is our choice.
model = dict(backbone=dict(arch='b1', drop_path_rate=0.1), head=dict(in_channels=384))
