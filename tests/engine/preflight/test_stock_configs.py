# SPDX-License-Identifier: Apache-2.0
"""Heads and data of the toolboxes' own configs fit, as far as the check can tell.

By default, one config of each kind that is an exception is read. All of them take five
minutes: ALL_CONFIGS=1 pytest tests/engine/preflight/test_stock_configs.py
"""

import importlib
import inspect
import os
import pathlib

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from mmadaptor.engine.preflight.heads import check_heads
from mmadaptor.engine.preflight.report import Report

CONFIGS = dict(
    mmdet=[
        'bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval',
        'deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval',
        'glip/odinw/glip_atss_swin-t_a_fpn_dyhead_pretrain_odinw13',
        'grounding_dino/lvis/grounding_dino_swin-b_pretrain_zeroshot_lvis',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic',
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco',
    ],
    mmpretrain=[
        'efficientnet_v2/efficientnetv2-l_8xb32_in21k',
        'resnet/resnet50_8xb32_in1k',
    ],
    mmseg=[
        'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512',
        'san/san-vit-b16_voc12aug-640x640',
        'stdc/stdc1_4xb12-80k_cityscapes-512x1024',
        'vpd/vpd_sd_4xb8-25k_nyu-480x480',
    ],
)


def class_of(registry, cfg, toolbox):
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(toolbox) as registry:
        return registry.get(kind)


def datasets_in(cfg):
    """Yield the configs of datasets that read files."""
    inner = cfg.get('dataset') or cfg.get('datasets') or ()
    inner = inner if isinstance(inner, list | tuple) else [inner]
    for part in inner:
        yield from datasets_in(part)
    if not inner:
        yield cfg


def empty_dataset(cfg, toolbox):
    """Make a dataset that has classes and no data; None if only files have them."""
    kind = class_of(DATASETS, cfg, toolbox)
    meta = getattr(kind, 'METAINFO', None)
    if not isinstance(meta, dict):
        return None
    dataset = kind.__new__(kind)
    dataset._metainfo = {**meta, **(cfg.get('metainfo') or {})}
    dataset.reduce_zero_label = cfg.get('reduce_zero_label', False)
    return dataset


def default(kind, name):
    """Return the default of an argument of a class, or of the one that it gets."""
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        if name in parameters:
            value = parameters[name].default
            return None if value is inspect.Parameter.empty else value
    return None


def empty_model(cfg, toolbox):
    """Make the modules of a config, without layers: they know numbers of classes."""
    kind = class_of(MODELS, cfg, toolbox)
    is_module = inspect.isclass(kind) and issubclass(kind, nn.Module)
    is_module = is_module and '__getattr__' not in vars(kind)  # of what it wraps
    module = kind.__new__(kind) if is_module else nn.Module()
    nn.Module.__init__(module)
    counts = [cfg.get('num_things_classes'), cfg.get('num_stuff_classes')]
    count = sum(counts) if None not in counts else cfg.get('num_classes')
    count = default(kind, 'num_classes') if count is None and is_module else count
    if count is not None:
        module.num_classes = count
    module.class_agnostic = cfg.get('class_agnostic', False)
    for name, part in cfg.items():
        if isinstance(part, list | tuple) and any(isinstance(p, dict) for p in part):
            parts = [empty_model(p, toolbox) for p in part if isinstance(p, dict)]
            module.add_module(name, nn.ModuleList(parts))
        elif isinstance(part, dict) and 'type' in part and not hasattr(module, name):
            module.add_module(name, empty_model(part, toolbox))
    return module


def said_of(path, toolbox):
    """Return the problems of a config, and whether a dataset tells its classes."""
    cfg, report, known = Config.fromfile(path), Report(), False
    model = empty_model(cfg.get('model') or {}, toolbox)
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        for part in datasets_in(loader['dataset']) if isinstance(loader, dict) else ():
            dataset = empty_dataset(part, toolbox)
            if dataset is not None and dataset.metainfo.get('classes'):
                known = True
                check_heads(model, dataset, f'{split}_dataloader.dataset', report)
    return list(report.problems), known


@pytest.mark.parametrize('toolbox', CONFIGS)
def test_no_config_of_a_toolbox_is_refused(toolbox):
    pytest.importorskip(toolbox)
    importlib.import_module(f'{toolbox}.utils').register_all_modules(False)
    root = pathlib.Path(importlib.import_module(toolbox).__path__[0], '.mim', 'configs')
    paths = [root / f'{name}.py' for name in CONFIGS[toolbox]]
    every = 'ALL_CONFIGS' in os.environ
    if every:
        paths = sorted(p for p in root.rglob('*.py') if '_base_' not in p.parts)
    refused, with_classes = {}, 0
    for path in paths:
        try:
            problems, known = said_of(path, toolbox)
        except (FileNotFoundError, KeyError, RuntimeError):  # a config that is broken
            assert every, path
            continue
        with_classes += known
        if problems:
            refused[str(path.relative_to(root))] = problems
    assert not refused
    assert with_classes >= len(CONFIGS[toolbox])
    if every:
        assert with_classes > 450
