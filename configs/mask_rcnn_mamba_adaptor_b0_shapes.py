# SPDX-License-Identifier: Apache-2.0
# A small Mask R-CNN on the embedded dataset: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/mask_rcnn_shapes.py',
    '_base_/datasets/shapes_instance.py',
    '_base_/schedules/shapes_2e.py',
    '_base_/default_runtime_det.py',
]

# Adaptor-T is open from the start (gamma 1, not 0): a network from scratch then learns
# what is far away in fewer iterations, see `parts` in docs/studies.md.
adaptors = dict(temporal=dict(gamma_init=1.0), spatial=dict())
model = dict(
    backbone=dict(
        arch='b0', adaptors=adaptors, drop_path_rate=0.0, scan_init='balanced'
    )
)
