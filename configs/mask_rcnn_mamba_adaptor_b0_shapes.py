# SPDX-License-Identifier: Apache-2.0
# A small Mask R-CNN on the embedded dataset: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/mask_rcnn_shapes.py',
    '_base_/datasets/shapes_instance.py',
    '_base_/schedules/shapes_3e.py',
    '_base_/default_runtime_det.py',
]

model = dict(backbone=dict(arch='b0', drop_path_rate=0.0, scan_init='balanced'))
