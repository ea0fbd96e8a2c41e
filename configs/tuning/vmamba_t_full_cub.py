# SPDX-License-Identifier: Apache-2.0
# All parameters are trained.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(backbone=dict(drop_path_rate=0.2))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
