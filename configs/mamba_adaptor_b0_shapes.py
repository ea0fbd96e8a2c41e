# SPDX-License-Identifier: Apache-2.0
# A small classifier on the embedded dataset: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/shapes_class.py',
    '_base_/schedules/adamw.py',
    '_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(arch='b0', drop_path_rate=0.0, scan_init='balanced'),
    head=dict(in_channels=256, num_classes=6),
    train_cfg=None,
)
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(lr=5e-4, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', T_max=2, eta_min=1e-5, convert_to_iter_based=True),
]
custom_hooks = [dict(type='mmadaptor.ConfusionMatrixHook')]
default_hooks = dict(visualization=dict(rescale_factor=3.0))
