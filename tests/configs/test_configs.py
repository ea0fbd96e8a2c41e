"""Every config: built with its optimizer and schedule, and one step of it."""
import gc
import json
import pathlib

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmadaptor.datasets import make_shapes

ROOT = pathlib.Path(__file__).parents[2] / 'configs'
CONFIGS = sorted(p.stem for p in ROOT.glob('*.py'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two pictures as COCO has them, and a few of `shapes`."""
    root = tmp_path_factory.mktemp('data')
    (root / 'coco' / 'annotations').mkdir(parents=True)
    box = [8, 8, 40, 32]
    polygon = [8, 8, 48, 8, 48, 40, 8, 40]
    names = CocoDataset.METAINFO['classes']
    for split in ('train2017', 'val2017'):
        (root / 'coco' / split).mkdir()
        images = [dict(id=i, file_name=f'{i}.jpg', height=96, width=64)
                  for i in range(2)]
        for image in images:
            picture = np.random.default_rng(image['id']).integers(
                0, 255, (96, 64, 3), np.uint8)
            cv2.imwrite(str(root / 'coco' / split / image['file_name']), picture)
        annotations = [dict(id=i + 1, image_id=i, category_id=i + 1, bbox=box,
                            area=40 * 32, segmentation=[polygon], iscrowd=0)
                       for i in range(2)]
        categories = [dict(id=i + 1, name=n) for i, n in enumerate(names)]
        file = root / 'coco' / 'annotations' / f'instances_{split}.json'
        file.write_text(json.dumps(dict(
            images=images, annotations=annotations, categories=categories)))
    make_shapes(root / 'shapes', train=4, val=1, workers=1)
    return root


def load(name, data, work_dir):
    """A config on small pictures, without its pretrained file."""
    cfg = Config.fromfile(ROOT / f'{name}.py')
    text = cfg.pretty_text.replace("'data/", f"'{data}/")
    for size in ('(1333, 800)', '(\n                    1333,\n                    800,\n                )'):
        text = text.replace(size, '(96, 64)')
    cfg = Config.fromstring(text, '.py')
    cfg.work_dir = str(work_dir)
    cfg.model.backbone.pop('init_cfg', None)
    cfg.train_dataloader.num_workers = 0
    return cfg


@pytest.fixture(autouse=True)
def collected():
    """Runners refer to themselves: without this every model stays in memory."""
    yield
    gc.collect()


@pytest.mark.parametrize('name', CONFIGS)
def test_a_step_of_each_config(name, data, tmp_path):
    cfg = load(name, data, tmp_path)
    init_default_scope(cfg.default_scope)
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    assert runner._train_loop.max_epochs == cfg.train_cfg.max_epochs
    assert max(s.end for s in schedulers) >= cfg.train_cfg.max_epochs
    batch = next(iter(runner.train_dataloader))
    losses = runner.model.train_step(batch, runner.optim_wrapper)
    assert torch.isfinite(losses['loss'])


@pytest.mark.parametrize('name', CONFIGS)
def test_what_is_decayed(name, data, tmp_path):
    cfg = load(name, data, tmp_path)
    init_default_scope(cfg.default_scope)
    runner = Runner.from_cfg(cfg)
    optimizer = runner.build_optim_wrapper(cfg.optim_wrapper).optimizer
    names = {id(p): n for n, p in runner.model.named_parameters()}
    decay = {names[id(p)]: g['weight_decay']
             for g in optimizer.param_groups for p in g['params']}
    exempt = ('A_log', 'mixer.D', 'dt_weight', 'dt_bias', 'gamma', 'alpha')
    for key, value in decay.items():
        if key.startswith('backbone.stages'):
            free = any(e in key for e in exempt) or 'norm' in key
            assert value == (0. if free else .05), key
