# SPDX-License-Identifier: Apache-2.0
# A ResNet-18 of 24 to 192 channels, as large as b0. Its norms train too; mmdet's default is
# for pretrained weights, and freezes the statistics.
_base_ = '../fcos_mamba_adaptor_b0_trees.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        stem_channels=24,
        base_channels=24,
        norm_eval=False,
    ),
    neck=dict(in_channels=[24, 48, 96, 192]),
)
