# SPDX-License-Identifier: Apache-2.0
# Adaptors and head are trained. Blocks of equal width share their adaptors.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(
    backbone=dict(
        adaptors=dict(temporal=dict(), spatial=dict(), share=True),
        trainable=['adaptors'],
    )
)
