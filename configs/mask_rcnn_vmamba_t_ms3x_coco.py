# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/mask_rcnn_vmamba_t.py', '_base_/recipes/coco_ms3x.py']
