# SPDX-License-Identifier: Apache-2.0
# Fashion-MNIST: python tools/make_data.py fashion
dataset_type = 'CustomDataset'
data_root = 'data/fashion/'
image_size = (28, 28)
classes = (
    'ankle_boot',
    'bag',
    'coat',
    'dress',
    'pullover',
    'sandal',
    'shirt',
    'sneaker',
    't_shirt',
    'trouser',
)
data_preprocessor = dict(num_classes=10, mean=[72.9] * 3, std=[90.0] * 3, to_rgb=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    collate_fn=dict(type='default_collate'),  # as in the tools of mmpretrain
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        metainfo=dict(classes=classes),
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=2,
    collate_fn=dict(type='default_collate'),  # as in the tools of mmpretrain
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        metainfo=dict(classes=classes),
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    val_dataloader, dataset=dict(val_dataloader['dataset'], data_prefix='test')
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = [val_evaluator, dict(type='ConfusionMatrix')]
