# SPDX-License-Identifier: Apache-2.0
# A Vim for images of 28 px: 18 blocks for 7 x 7 patches and a class token.
_base_ = [
    '_base_/models/classifier_vim_ti.py',
    '_base_/datasets/fashion.py',
    '_base_/schedules/fashion_10e.py',
    '_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=32, depth=18),
        img_size=28,
        patch_size=4,
        drop_path_rate=0.0,
    ),
    head=dict(in_channels=32, num_classes=10),
    train_cfg=None,
)
