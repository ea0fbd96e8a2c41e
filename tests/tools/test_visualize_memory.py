# SPDX-License-Identifier: Apache-2.0
"""tools/visualize_memory.py as a user runs it."""

import runpy
import sys

import numpy as np
import pytest
import torch
from helpers.jobs import ROOT, refusal, write_coco, write_config
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmadaptor.checkpoints.adaptor_only import base_state, digest
from mmadaptor.models import Vim
from mmadaptor.registry import MODELS

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[128.] * 3, std=[64.] * 3),
    backbone=dict(
        type='mmadaptor.Vim', arch=dict(embed_dims=16, depth=2), img_size=64,
        adaptors={adaptors}),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16))
test_dataloader = dict(dataset=dict(type='CustomDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
"""


@pytest.fixture
def job(tmp_path):
    write_coco(tmp_path / 'data', images=1)
    return job_with(tmp_path, 'dict(temporal=dict(), spatial=dict())')


def job_with(folder, adaptors):
    config = write_config(folder, CONFIG, adaptors=adaptors)
    init_default_scope('mmpretrain')
    model = MODELS.build(Config.fromfile(config).model)
    assert isinstance(model.backbone, Vim)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    return [folder / 'data' / 'val' / '0.png', config, folder / 'weights.pth']


def test_every_token_is_drawn(job, tmp_path, monkeypatch, capsys):
    path = ROOT / 'tools' / 'visualize_memory.py'
    monkeypatch.setattr(
        sys,
        'argv',
        [
            str(path),
            *map(str, job),
            '--tokens',
            '0,0',
            '.9,.5',
            '--out-dir',
            str(tmp_path / 'out'),
        ],
    )
    runpy.run_path(str(path), run_name='__main__')
    said = capsys.readouterr().out
    # 48 x 64 pixels are 3 x 4 patches.
    assert 'layers.1, token (0, 0) of 3 x 4' in said
    assert 'layers.1, token (2, 2) of 3 x 4' in said
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'memory_0.png',
        'memory_1.png',
        'receptive_field_0.png',
        'receptive_field_1.png',
    ]


SEGMENTOR = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[128.] * 3, std=[64.] * 3, size=(48, 64)),
    backbone=dict(
        type='mmadaptor.VMamba', out_indices=(1, ), trainable=['adaptors'],
        arch=dict(embed_dims=16, depths=(1, 2), d_state=1, ssm_ratio=1.),
        init_cfg=dict(type='Pretrained', checkpoint={base!r}),
        adaptors=dict(temporal=dict(), share=True)),
    decode_head=dict(
        type='FCNHead', in_channels=32, channels=8, num_convs=1, num_classes=2,
        norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'))
test_dataloader = dict(dataset=dict(type='BaseSegDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]))
"""


def test_a_tuned_segmentor(tmp_path, monkeypatch, capsys):
    """Adaptors only, completed with their base; no mask is loaded."""
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    write_coco(tmp_path / 'data', images=1)
    config = write_config(tmp_path, SEGMENTOR, base=str(tmp_path / 'base.pth'))
    model = MODELS.build(Config.fromfile(config).model)
    base = base_state(model)
    torch.save(
        dict(state_dict={k.removeprefix('backbone.'): v for k, v in base.items()}),
        tmp_path / 'base.pth',
    )
    tuned = {k: v for k, v in model.state_dict().items() if k not in base}
    torch.save(
        dict(
            state_dict=tuned,
            meta=dict(tuning=dict(base=digest(base), tuned=digest(tuned))),
        ),
        tmp_path / 'tuned.pth',
    )
    path = ROOT / 'tools' / 'visualize_memory.py'
    monkeypatch.setattr(
        sys,
        'argv',
        [
            str(path),
            str(tmp_path / 'data' / 'val' / '0.png'),
            config,
            str(tmp_path / 'tuned.pth'),
            '--block',
            'stages.1.1',
            '--out-dir',
            str(tmp_path / 'out'),
        ],
    )
    runpy.run_path(str(path), run_name='__main__')
    # 48 x 64 pixels at stride 8.
    assert 'stages.1.1, token (3, 4) of 6 x 8' in capsys.readouterr().out
    assert len(list((tmp_path / 'out').iterdir())) == 2


def test_a_grey_image_of_16_bits(tmp_path, monkeypatch, capsys):
    """Read by the config's loader, and visible."""
    text = CONFIG.replace('img_size=64', 'img_size=64, in_channels=1').replace(
        "type='LoadImageFromFile'", "type='LoadImageFromFile', color_type='unchanged'"
    )
    text = text.replace('[128.] * 3, std=[64.] * 3', '[30000.], std=[20000.]')
    config = write_config(tmp_path, text, adaptors='dict(temporal=dict())')
    init_default_scope('mmpretrain')
    model = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    image = np.random.default_rng(0).integers(0, 2**16, (48, 64), dtype=np.uint16)
    Image.fromarray(image).save(tmp_path / 'a.png')
    path = ROOT / 'tools' / 'visualize_memory.py'
    files = [tmp_path / 'a.png', config, tmp_path / 'weights.pth']
    out = ['--out-dir', tmp_path / 'out']
    monkeypatch.setattr(sys, 'argv', [*map(str, [path, *files, *out])])
    runpy.run_path(str(path), run_name='__main__')
    assert 'of 3 x 4' in capsys.readouterr().out
    assert len(list((tmp_path / 'out').iterdir())) == 2


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--tokens', '3,4'], '--tokens 3,4: expected ROW,COLUMN'),
        (['--tokens', 'x'], '--tokens x: expected ROW,COLUMN'),
        (
            ['--block', 'layers.7'],
            '--block layers.7: expected a block with an '
            'Adaptor-T, one of layers.0, layers.1',
        ),
    ],
)
def test_wrong_arguments_are_named(job, arguments, message, monkeypatch):
    assert message in refusal(monkeypatch, 'visualize_memory', *job, *arguments)


def test_a_missing_image_and_a_plain_backbone(job, tmp_path, monkeypatch):
    assert 'nowhere.png: no such image' in refusal(
        monkeypatch, 'visualize_memory', tmp_path / 'nowhere.png', *job[1:]
    )
    (tmp_path / 'text.png').write_text('no image')
    assert 'text.png cannot be read' in refusal(
        monkeypatch, 'visualize_memory', tmp_path / 'text.png', *job[1:]
    )
    plain = job_with(tmp_path, 'dict(spatial=dict())')
    assert 'no Adaptor-T' in refusal(monkeypatch, 'visualize_memory', *plain)
