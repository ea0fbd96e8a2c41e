# SPDX-License-Identifier: Apache-2.0
# A classifier of two stages, for images of 28 px: maps of 7 x 7 and 4 x 4.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/fashion.py',
    '_base_/schedules/fashion_10e.py',
    '_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        arch=dict(embed_dims=64, depths=(2, 2), d_state=1, ssm_ratio=1.0),
        out_indices=(1,),
        drop_path_rate=0.0,
        scan_init='balanced',
    ),
    head=dict(in_channels=128, num_classes=10),
    train_cfg=None,
)
