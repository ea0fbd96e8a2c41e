# SPDX-License-Identifier: Apache-2.0
"""A small segmentor and an image, of which the tests make a page."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from helpers.jobs import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

CONFIG = ROOT / 'configs' / 'upernet_mamba_adaptor_b0_shapes.py'
SMALL = {
    'model.backbone.arch': dict(
        _delete_=True, embed_dims=8, depths=(1, 1), d_state=1, ssm_ratio=2.0
    ),
    'model.backbone.out_indices': (0, 1),
    'model.decode_head.in_index': [0, 1],
    'model.decode_head.in_channels': [8, 16],
    'model.decode_head.channels': 8,
    'model.auxiliary_head': None,
}
HEIGHT, WIDTH = 96, 128
TIMES = '\N{MULTIPLICATION SIGN}'
WAIT = 30_000  # milliseconds for what takes a run of the model


def run_tool(name, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')


def random_model(folder):
    """Config and checkpoint of a small segmentor with random predictors."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(SMALL)
    config, checkpoint = folder / 'config.py', folder / 'model.pth'
    cfg.dump(config)
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    for path, parameter in model.named_parameters():
        if 'temporal' in path and path.endswith('weight'):
            torch.nn.init.normal_(parameter, std=1.0)
        if path.endswith(('gamma', 'alpha')):
            torch.nn.init.constant_(parameter, 0.3)
    meta = dict(dataset_meta=dict(cfg.metainfo), cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint


def picture(path, height, width):
    """Blobs of color, so that there are several classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), 'uint8')
    Image.fromarray(pixels).resize((width, height), Image.BICUBIC).save(path)
    return path


def answer_of(site, change):
    """A page.json that is changed on its way to the browser."""
    about = json.loads((site / 'page.json').read_text())
    change(about)
    return lambda page: page.route(
        '**/page.json', lambda route: route.fulfill(json=about)
    )
