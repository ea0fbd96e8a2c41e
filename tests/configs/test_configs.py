# SPDX-License-Identifier: Apache-2.0
"""Every config: built with its optimizer and schedule, and one step of it."""

import gc
import json
import pathlib
import re

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmadaptor.datasets import fashion, make_shapes, trees
from mmadaptor.engine import Runner

ROOT = pathlib.Path(__file__).parents[2] / 'configs'
CONFIGS = sorted(p.stem for p in ROOT.glob('*.py'))
BLOCKS = ('backbone.stages', 'backbone.layers')
EXEMPT = ('A_log', 'mixer.D', 'dt_weight', 'dt_bias', 'gamma', 'alpha', 'norm')


def write_pictures(folder, size=(96, 64)):
    """Two pictures of noise, in `folder`; returns their names."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ('0.jpg', '1.jpg'):
        picture = random.integers(0, 255, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / name), picture)
    return ['0.jpg', '1.jpg']


def write_coco(root):
    (root / 'annotations').mkdir(parents=True)
    polygon = [8, 8, 48, 8, 48, 40, 8, 40]
    classes = CocoDataset.METAINFO['classes']
    for split in ('train2017', 'val2017'):
        images = [
            dict(id=i, file_name=name, height=96, width=64)
            for i, name in enumerate(write_pictures(root / split))
        ]
        annotations = [
            dict(
                id=i + 1,
                image_id=i,
                category_id=i + 1,
                iscrowd=0,
                bbox=[8, 8, 40, 32],
                area=40 * 32,
                segmentation=[polygon],
            )
            for i in range(2)
        ]
        categories = [dict(id=i + 1, name=n) for i, n in enumerate(classes)]
        file = root / 'annotations' / f'instances_{split}.json'
        file.write_text(
            json.dumps(
                dict(images=images, annotations=annotations, categories=categories)
            )
        )


def write_imagenet(root):
    (root / 'meta').mkdir(parents=True)
    for split in ('train', 'val'):
        names = write_pictures(root / split)
        lines = [f'{name} {label}' for label, name in enumerate(names)]
        (root / 'meta' / f'{split}.txt').write_text('\n'.join(lines))


def write_ade(root):
    for split in ('training', 'validation'):
        masks = root / 'annotations' / split
        masks.mkdir(parents=True)
        for i, name in enumerate(write_pictures(root / 'images' / split)):
            mask = np.full((96, 64), 150 * i, np.uint8)
            cv2.imwrite(str(masks / name.replace('jpg', 'png')), mask)


def write_fashion(root):
    for split in ('train', 'val', 'test'):
        for name in fashion.LABELS:
            write_pictures(root / split / name, (28, 28))


def write_trees(root):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    for split in trees.PICTURES:
        boxes = [trees.Box(20, 30, 60, 60), trees.Box(200, 200, 230, 250)]
        trees.write_split(root, split, {'picture': (pixels, boxes)})


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two pictures of each data set, and a few of `shapes`."""
    root = tmp_path_factory.mktemp('data')
    write_coco(root / 'coco')
    write_imagenet(root / 'imagenet')
    write_ade(root / 'ade' / 'ADEChallengeData2016')
    make_shapes(root / 'shapes', train=8, val=8, workers=1)
    write_fashion(root / 'fashion')
    write_trees(root / 'trees')
    return root


def small(node, data):
    """A part of a config on small pictures, where the data is, unpretrained.

    Of 512 boxes of a picture that a detector's second stage learns from, 32.
    """
    if isinstance(node, dict):
        if node.get('type') == 'RandomSampler' and node['num'] == 512:
            node = {**node, 'num': 32}
        return {
            key: value // 4
            if key in ('scale', 'crop_size') and value in (224, 256)
            else small(value, data)
            for key, value in node.items()
            if not (key == 'init_cfg' and value and 'Pretrained' in str(value))
        }
    if isinstance(node, list | tuple):
        if len(node) == 2 and all(type(n) is int and n >= 384 for n in node):
            return tuple(n // 8 for n in node)
        return type(node)(small(child, data) for child in node)
    if isinstance(node, str) and node.startswith('data/'):
        return f'{data}/{node.removeprefix("data/")}'
    return node


@pytest.fixture(scope='module', params=CONFIGS)
def runner(request, data, tmp_path_factory):
    # Runners refer to themselves: without this every model stays in memory.
    gc.collect()
    cfg = Config(small(Config.fromfile(ROOT / f'{request.param}.py').to_dict(), data))
    cfg.work_dir = str(tmp_path_factory.mktemp(request.param))
    loader = cfg.train_dataloader
    loader.update(num_workers=0, batch_size=min(loader.batch_size, 2))
    if cfg.default_scope == 'mmpretrain':
        loader.collate_fn = dict(type='default_collate')
    init_default_scope(cfg.default_scope)
    cfg.load_from = cfg.embedded_dataset = None  # which would be made
    runner = Runner.from_cfg(cfg)
    runner.name = request.param
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    return runner


def test_a_step_of_each_config(runner):
    cfg, loop = runner.cfg, runner._train_loop
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    by_epoch = 'max_epochs' in cfg.train_cfg
    key = 'max_epochs' if by_epoch else 'max_iters'
    assert getattr(loop, key) == cfg.train_cfg[key]
    assert max(s.end for s in schedulers) >= (
        loop.max_epochs if schedulers[-1].by_epoch else loop.max_iters
    )
    batch = next(iter(runner.train_dataloader))
    if re.search('vmamba_[sb]_', runner.name):
        return  # as VMamba-T's, but for an arch that the backbone's tests know
    losses = runner.model.train_step(batch, runner.optim_wrapper)
    assert torch.isfinite(losses['loss'])


def test_what_is_decayed(runner):
    decay = runner.cfg.optim_wrapper.optimizer.weight_decay
    names = {id(p): n for n, p in runner.model.named_parameters()}
    checked = 0
    for group in runner.optim_wrapper.optimizer.param_groups:
        for parameter in group['params']:
            key = names[id(parameter)]
            if key.startswith(BLOCKS):
                free = (
                    any(e in key for e in EXEMPT)
                    or ('.temporal.' in key and key.endswith('bias'))
                    or (runner.name.endswith('_imagenet') and parameter.ndim == 1)
                )
                assert group['weight_decay'] == (0.0 if free else decay), key
                checked += 1
    assert checked > 50


def test_recipe_of_imagenet():
    cfg = Config.fromfile(ROOT / 'mamba_adaptor_b2_imagenet.py')
    augment = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert augment['RandAugment'].magnitude_level == 9
    assert augment['RandAugment'].policies == 'timm_increasing'
    assert augment['RandomErasing'].erase_prob == 0.25
    assert [(a.type, a.alpha) for a in cfg.model.train_cfg.augments] == [
        ('Mixup', 0.8),
        ('CutMix', 1.0),
    ]
    assert cfg.model.head.loss.label_smooth_val == 0.1
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1e-3, 0.05)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5
    assert [h.momentum for h in cfg.custom_hooks if h.type == 'EMAHook'] == [1e-4]
    assert 8 * cfg.train_dataloader.batch_size == 1024
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (20, 20, 300)
    test = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    assert (test['ResizeEdge'].scale, test['CenterCrop'].crop_size) == (256, 224)


def test_rate_of_drop_path(runner):
    """VMamba's own, for our two sizes T's, but b1's on ImageNet and b0's."""
    rates = dict(
        vmamba_s_imagenet=0.3,
        vmamba_b_imagenet=0.6,
        mamba_adaptor_b1_imagenet=0.1,
        mask_rcnn_vmamba_b_coco=0.6,
        mask_rcnn_vmamba_b_ms3x_coco=0.6,
        upernet_vmamba_s_ade20k=0.3,
        upernet_vmamba_b_ade20k=0.6,
    )
    if 'vim' in runner.name:
        rates[runner.name] = 0.1
    short = runner.name.endswith(('_shapes', '_fashion', '_trees'))
    expected = 0.0 if short else rates.get(runner.name, 0.2)
    assert runner.cfg.model.backbone.drop_path_rate == expected


def test_heads_leave_the_backbone_as_it_was_made():
    """Mmpretrain's base would draw every linear layer anew."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(ROOT / 'mamba_adaptor_b1_imagenet.py')
    model = MODELS.build(cfg.model)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model.init_weights()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert model.head.fc.weight.std().item() == pytest.approx(0.02, rel=0.1)
