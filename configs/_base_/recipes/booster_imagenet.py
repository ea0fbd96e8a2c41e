# SPDX-License-Identifier: Apache-2.0
# A pretrained classifier, converted by tools/convert_checkpoint.py, with adaptors:
# 30 epochs. Adaptors have the learning rate of training from scratch, the base a tenth
# of it. The schedule is our choice.
_base_ = 'imagenet_300e.py'

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(adaptor_lr_mult=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=2,
        end=30,
        eta_min=1e-6,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(strict_load=dict(optional=[r'\.(temporal|spatial)\.']))
