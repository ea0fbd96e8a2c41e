# SPDX-License-Identifier: Apache-2.0
# Decay rates (A) and skips (D) of the scans and head are trained.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(backbone=dict(trainable=[r'mixer\.A_log$', r'mixer\.D$']))
