# SPDX-License-Identifier: Apache-2.0
# Segmentors on the embedded dataset: four epochs from scratch.
_base_ = 'adamw.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(lr=2e-3, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', T_max=4, eta_min=1e-5, convert_to_iter_based=True),
]
