# SPDX-License-Identifier: Apache-2.0
# A small detector of trees in aerial photographs: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/fcos_trees.py',
    '_base_/datasets/trees.py',
    '_base_/schedules/trees_16e.py',
    '_base_/default_runtime_det.py',
]
