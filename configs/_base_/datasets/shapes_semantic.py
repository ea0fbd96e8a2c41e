# SPDX-License-Identifier: Apache-2.0
# The embedded dataset with one class per pixel. It is made if it does not exist.
dataset_type = 'BaseSegDataset'
data_root = embedded_dataset = 'data/shapes/'
image_size = (128, 128)
metainfo = dict(
    classes=('background', 'columns', 'disc_off', 'disc_on', 'rows', 'star5', 'star6'),
    palette=[
        [0, 0, 0],
        [230, 60, 60],
        [60, 80, 220],
        [240, 210, 40],
        [60, 190, 80],
        [220, 80, 220],
        [60, 210, 220],
    ],
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        metainfo=metainfo,
        img_suffix='.png',
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        metainfo=metainfo,
        img_suffix='.png',
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
