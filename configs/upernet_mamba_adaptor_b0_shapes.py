# SPDX-License-Identifier: Apache-2.0
# The embedded run of a segmentor: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/upernet.py',
    '_base_/datasets/shapes_semantic.py',
    '_base_/schedules/shapes_4e.py',
    '_base_/default_runtime_seg.py',
]

sync_bn = None
# Two things would keep so short a run at the background, which most pixels are:
# mmseg's classifiers, which start with a deviation of .01 (the heads start as
# torch draws them instead), and equal weights.
class_weight = [0.05, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch='b0', drop_path_rate=0.0, scan_init='balanced'),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        channels=64,
        num_classes=7,
        loss_decode=dict(class_weight=class_weight),
        init_cfg=None,
    ),
    auxiliary_head=dict(
        in_channels=128,
        channels=64,
        num_classes=7,
        loss_decode=dict(class_weight=class_weight),
        init_cfg=None,
    ),
)
