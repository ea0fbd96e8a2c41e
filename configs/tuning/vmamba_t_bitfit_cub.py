# SPDX-License-Identifier: Apache-2.0
# Biases and head are trained.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(backbone=dict(trainable=['biases']))
