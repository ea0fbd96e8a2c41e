# SPDX-License-Identifier: Apache-2.0
# The embedded dataset with one class per image. It is made if it does not exist.
dataset_type = 'CustomDataset'
data_root = embedded_dataset = 'data/shapes/'
image_size = (128, 128)
classes = ('columns', 'disc_off', 'disc_on', 'rows', 'star5', 'star6')
data_preprocessor = dict(
    num_classes=6,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    collate_fn=dict(type='default_collate'),  # as in the tools of mmpretrain
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        metainfo=dict(classes=classes),
        data_root=data_root,
        data_prefix='classes/train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    collate_fn=dict(type='default_collate'),  # as in the tools of mmpretrain
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        metainfo=dict(classes=classes),
        data_root=data_root,
        data_prefix='classes/val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = [val_evaluator, dict(type='ConfusionMatrix')]
