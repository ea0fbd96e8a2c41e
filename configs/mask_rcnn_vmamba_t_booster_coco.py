# SPDX-License-Identifier: Apache-2.0
# Adaptors have ten times the learning rate of the pretrained base: our choice.
_base_ = 'mask_rcnn_vmamba_t_coco.py'

model = dict(backbone=dict(adaptors=dict(temporal=dict(), spatial=dict())))
optim_wrapper = dict(paramwise_cfg=dict(adaptor_lr_mult=10.0))
