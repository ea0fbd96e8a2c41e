# SPDX-License-Identifier: Apache-2.0
# Shared adaptors, norms, depthwise convolutions of SS2D and head are trained.
_base_ = 'vmamba_t_adaptors_cub.py'

model = dict(backbone=dict(trainable=['adaptors', 'norms', r'mixer\.conv\.']))
