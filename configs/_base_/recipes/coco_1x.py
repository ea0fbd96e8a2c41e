# SPDX-License-Identifier: Apache-2.0
# COCO with instance masks, 1x: 12 epochs with 8 x 2 images, steps after epochs 8
# and 11.
_base_ = [
    'mmdet::_base_/datasets/coco_instance.py',
    '../schedules/adamw.py',
    '../default_runtime_det.py',
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(type='MultiStepLR', end=12, milestones=[8, 11], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
