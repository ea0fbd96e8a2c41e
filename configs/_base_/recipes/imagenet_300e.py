# SPDX-License-Identifier: Apache-2.0
# ImageNet-1K: 300 epochs with 8 x 128 images; 20 epochs of warm-up, then a cosine. Data
# and weight decay rules are those of Swin in mmpretrain. Gradient clipping and EMA are
# added.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../schedules/adamw.py',
    '../default_runtime_cls.py',
]

collate = dict(type='default_collate')  # as in the tools of mmpretrain
train_dataloader = dict(batch_size=128, collate_fn=collate)
val_dataloader = test_dataloader = dict(collate_fn=collate)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=20,
        end=300,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
# The hook of mmpretrain validates the averaged weights and saves them as `state_dict`.
custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
