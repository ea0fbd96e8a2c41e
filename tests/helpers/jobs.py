# SPDX-License-Identifier: Apache-2.0
"""Small configs, a small COCO dataset, and functions that run the tools."""

import itertools
import json
import os
import pathlib
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmadaptor.engine import Runner

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
CLASSES = ('disc', 'box')

TOY = """
custom_imports = dict(imports=['helpers.toy'])
model = dict(type='ToyModel', width=50000)
work_dir = {work_dir!r}
train_dataloader = dict(
    dataset=dict(type='ToyDataset'), batch_size=2, num_workers=2,
    persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    dataset=dict(type='ToyDataset'), batch_size=2,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='ToyMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=3)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
default_hooks = dict(checkpoint=dict(
    type='CheckpointHook', interval=1, max_keep_ckpts=2))
custom_hooks = [dict(type='mmadaptor.CurvesHook')]
randomness = dict(seed=3)
"""

DETECTOR = """
default_scope = 'mmdet'
data_root = {data_root!r}
metainfo = dict(classes=('disc', 'box'))
size = (64, 64)
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[128.] * 3, std=[64.] * 3,
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, num_stages=4,
        out_indices=(1, 2, 3), init_cfg=None),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=16, num_outs=3),
    bbox_head=dict(
        type='RetinaHead', num_classes=2, in_channels=16, feat_channels=16,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1,
            ratios=[1.0], strides=[8, 16, 32])),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4,
            min_pos_iou=0),
        sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(
        nms_pre=20, min_bbox_size=0, score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5), max_per_img=5))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='RepeatDataset', times=1, dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='train.json',
        data_prefix=dict(img='train/'), metainfo=metainfo, pipeline=pipeline)))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='val.json', test_mode=True,
        data_prefix=dict(img='val/'), metainfo=metainfo, pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + '/val.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer')
"""


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[128.] * 3, std=[64.] * 3),
    backbone=dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8,
        num_stages=4, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=2, in_channels=64,
        loss=dict(type='CrossEntropyLoss')))
dataset = dict(
    type='CustomDataset', data_root={data_root!r}, data_prefix='classes',
    metainfo=dict(classes=('box', 'disc')),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=True))
test_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
test_evaluator = dict(type='Accuracy', topk=(1, ))
train_cfg = dict(by_epoch=True, max_epochs=1)
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.001))
default_hooks = dict(visualization=dict(type='VisualizationHook'))
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""

SEGMENTOR = """
default_scope = 'mmseg'
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[128.] * 3, std=[64.] * 3,
        size=(48, 64), seg_pad_val=255),
    backbone=dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8,
        norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=64, channels=8, num_convs=1,
        num_classes=2, norm_cfg=norm_cfg,
        loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'))
dataset = dict(
    type='BaseSegDataset', data_root={data_root!r}, img_suffix='.png',
    data_prefix=dict(img_path='val', seg_map_path='masks'),
    metainfo=dict(classes=('ground', 'box'), palette=[[0, 0, 0], [255, 0, 0]]),
    pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')])
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type='InfiniteSampler', shuffle=True))
test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    visualization=dict(type='SegVisualizationHook'))
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""


def write_config(folder, text, name='config.py', **values):
    """Write a config and return its path."""
    path = pathlib.Path(folder, name)
    path.write_text(text.format(**values) if values else text)
    return str(path)


def write_coco(root, images=4):
    """Write a COCO dataset with one box per image."""
    root = pathlib.Path(root)
    random = np.random.default_rng(0)
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True)
        content = dict(
            images=[],
            annotations=[],
            categories=[
                dict(id=3 * i + 1, name=name) for i, name in enumerate(CLASSES)
            ],
        )
        for i in range(images):
            pixels = random.integers(0, 99, (48, 64, 3), dtype=np.uint8)
            pixels[8:32, 16:40] = 255
            Image.fromarray(pixels).save(root / split / f'{i}.png')
            content['images'].append(
                dict(id=i, file_name=f'{i}.png', height=48, width=64)
            )
            content['annotations'].append(
                dict(
                    id=i,
                    image_id=i,
                    category_id=3 * (i % 2) + 1,
                    iscrowd=0,
                    bbox=[16, 8, 24, 24],
                    area=576,
                )
            )
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


def write_labels(root, images=4):
    """Add masks, and a folder for each class, to the dataset of `write_coco`."""
    root = pathlib.Path(root)
    (root / 'masks').mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[8:32, 16:40] = 1
    for i in range(images):
        Image.fromarray(mask).save(root / 'masks' / f'{i}.png')
        folder = root / 'classes' / CLASSES[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / 'val' / f'{i}.png', folder)


META = dict(
    mmdet=dict(classes=('disc', 'box')),
    mmpretrain=dict(classes=('box', 'disc')),
    mmseg=dict(classes=('ground', 'box'), palette=[[0, 0, 0], [255, 0, 0]]),
)
TEXTS = dict(mmdet=DETECTOR, mmpretrain=CLASSIFIER, mmseg=SEGMENTOR)


def make_job(scope, tmp_path, settings=''):
    """Return a toolbox, a config, and a checkpoint as a training leaves it."""
    pytest.importorskip(scope)
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    config = write_config(tmp_path, TEXTS[scope] + settings, data_root=str(root))
    cfg = Config.fromfile(config)
    init_default_scope(scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if scope == 'mmdet':  # boxes to draw, though nothing was learned
        torch.nn.init.constant_(model.bbox_head.retina_cls.bias, 0.0)
    checkpoint = tmp_path / 'model.pth'
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(cfg=cfg.pretty_text, dataset_meta=META[scope]),
        ),
        checkpoint,
    )
    return scope, config, checkpoint


RUNS = itertools.count()


def log_of_training(cfg):
    """Train; return the log. Runs that start within a second share a file.

    mmengine keeps loggers by the experiment's name and the second: each has its own.
    """
    cfg.experiment_name = f'{cfg.get("experiment_name", "run")}_{next(RUNS)}'
    before = {p: p.read_text() for p in pathlib.Path(cfg.work_dir).glob('*/*.log')}
    runner = Runner.from_cfg(cfg)
    runner.train()
    path = pathlib.Path(runner.log_dir, f'{runner.timestamp}.log')
    return path.read_text().removeprefix(before.get(path, ''))


def refusal(monkeypatch, name, *arguments):
    """Run a tool in this process and expect it to exit with an error message.

    Returns:
        The message.
    """
    path = ROOT / 'tools' / f'{name}.py'
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name='__main__')
    assert isinstance(ended.value.code, str)  # Python prints it and exits with code 1
    return ended.value.code


def tool(name, *arguments, cwd=None, prelude=''):
    """Run tools/NAME.py in a new process, as a user does.

    Args:
        name: Name of the tool, or of a script that ends in .sh. Scripts find the
            Python that runs the tests.
        arguments: Command-line arguments.
        cwd: Working directory.
        prelude: Shell command that runs before the tool, for example to set limits.
    """
    folder = pathlib.Path(sys.executable).parent
    environment = dict(
        os.environ,
        PYTHONPATH=f'{ROOT}{os.pathsep}{ROOT / "tests"}',
        OMP_NUM_THREADS='1',
        PATH=f'{folder}{os.pathsep}{os.environ["PATH"]}',
    )
    start = [] if name.endswith('.sh') else [sys.executable]
    file = name if name.endswith('.sh') else f'{name}.py'
    command = [*start, str(ROOT / 'tools' / file), *map(str, arguments)]
    if prelude:
        command = ['bash', '-c', f'{prelude}; exec "$@"', 'bash', *command]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200
    )
