# SPDX-License-Identifier: Apache-2.0
_base_ = ['_base_/models/mask_rcnn_mamba_adaptor_b1.py', '_base_/recipes/coco_1x.py']
