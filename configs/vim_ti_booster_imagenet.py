# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/classifier_vim_ti.py', '_base_/recipes/booster_imagenet.py']

model = dict(backbone=dict(adaptors=dict(temporal=dict(), spatial=dict())))
load_from = 'checkpoints/vim_ti_imagenet.pth'
