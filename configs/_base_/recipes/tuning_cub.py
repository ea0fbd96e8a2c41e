# SPDX-License-Identifier: Apache-2.0
# Tuning of VMamba-T on CUB-200: 100 epochs with 8 x 8 images. Leaf configs set the
# trainable parameters and the learning rate. The recipe is our choice.
_base_ = [
    '../models/classifier.py',
    'mmpretrain::_base_/datasets/cub_bs8_384.py',
    '../schedules/adamw.py',
    '../default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        type='mmadaptor.VMamba',
        arch='tiny',
        drop_path_rate=0.0,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/vmamba_t_imagenet.pth',
            prefix='backbone.',
        ),
    ),
    head=dict(in_channels=768, num_classes=200),
    train_cfg=None,
)
collate = dict(type='default_collate')  # as in the tools of mmpretrain
train_dataloader = val_dataloader = test_dataloader = dict(collate_fn=collate)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(bias_decay_mult=0.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5, end=100, convert_to_iter_based=True),
]
custom_hooks = [dict(type='mmadaptor.AdaptorCheckpointHook')]
auto_scale_lr = dict(enable=False, base_batch_size=64)
