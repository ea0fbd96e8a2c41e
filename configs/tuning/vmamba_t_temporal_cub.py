# SPDX-License-Identifier: Apache-2.0
# Adaptor-T of each block and head are trained.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(backbone=dict(adaptors=dict(temporal=dict()), trainable=['adaptors']))
