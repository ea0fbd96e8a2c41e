# SPDX-License-Identifier: Apache-2.0
# A small segmentor on the embedded dataset: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/upernet.py',
    '_base_/datasets/shapes_semantic.py',
    '_base_/schedules/shapes_4e.py',
    '_base_/default_runtime_seg.py',
]

sync_bn = None
# Most pixels are background. A training this short would predict only background with
# equal class weights, or with the initialization of mmseg (a standard deviation of 0.01
# for the classifiers). So the classes are weighted, and the heads keep the
# initialization of torch.
class_weight = [0.05, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
data_preprocessor = dict(size=(128, 128))
model = dict(
    data_preprocessor=data_preprocessor,
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
