# SPDX-License-Identifier: Apache-2.0
# The head alone trains.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(backbone=dict(trainable=[]))
