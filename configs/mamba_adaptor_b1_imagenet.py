# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/classifier.py', '_base_/recipes/imagenet_300e.py']

# The recipe gives rates of drop path for T, S and B; this one is our choice.
model = dict(backbone=dict(arch='b1', drop_path_rate=0.1), head=dict(in_channels=384))
