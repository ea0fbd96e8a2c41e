# SPDX-License-Identifier: Apache-2.0
# Only the head is trained.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(backbone=dict(trainable=[]))
