# SPDX-License-Identifier: Apache-2.0
"""Configs with types as classes, and without a default scope, in every tool."""

import pathlib
import runpy
import sys

import pytest
import torch
from helpers.jobs import ROOT, write_coco, write_labels
from mmengine.config import Config
from mmengine.runner import Runner

CONFIG = """
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, TestLoop
from mmengine.visualization import LocalVisBackend
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.engine import VisualizationHook
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import (
    CrossEntropyLoss, GlobalAveragePooling, ImageClassifier, LinearClsHead)
from mmpretrain.visualization import UniversalVisualizer
from torch.optim import AdamW

from mmadaptor.engine import (
    ExactResumeHook, OptimWrapperConstructor, Runner, StrictLoadHook)
from mmadaptor.models import MambaAdaptor

default_scope = None
runner_type = Runner
model = dict(
    type=ImageClassifier,
    data_preprocessor=dict(num_classes=2, mean=[128.0] * 3, std=[64.0] * 3),
    backbone=dict(
        type=MambaAdaptor,
        arch=dict(embed_dims=16, depths=(1, 1), d_state=1, ssm_ratio=1.0),
        out_indices=(1,)),
    neck=dict(type=GlobalAveragePooling),
    head=dict(
        type=LinearClsHead, num_classes=2, in_channels=32,
        loss=dict(type=CrossEntropyLoss)))
dataset = dict(
    type=CustomDataset, data_root={data_root!r}, data_prefix='classes',
    metainfo=dict(classes=('box', 'disc')),
    pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs)])
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type=DefaultSampler, shuffle=True))
test_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type=DefaultSampler, shuffle=False))
test_evaluator = dict(type=Accuracy, topk=(1,))
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=AdamW, lr=0.001),
    constructor=OptimWrapperConstructor)
default_hooks = dict(
    checkpoint=dict(type=CheckpointHook, interval=1),
    visualization=dict(type=VisualizationHook),
    strict_load=dict(type=StrictLoadHook),
    exact_resume=dict(type=ExactResumeHook))
visualizer = dict(
    type=UniversalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with a config, its data and a checkpoint of one epoch."""
    folder = tmp_path_factory.mktemp('new_style')
    write_labels(write_coco(folder / 'data'))
    text = CONFIG.replace('{data_root!r}', repr(str(folder / 'data')))
    (folder / 'new.py').write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        run(patch, 'train', folder / 'new.py', '--work-dir', folder / 'run')
    return folder


def run(monkeypatch, name, *arguments):
    """Run a tool in this process."""
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)  # slow: it runs compilers
    path = str(ROOT / 'tools' / f'{name}.py')
    monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
    runpy.run_path(path, run_name='__main__')


@pytest.mark.parametrize(
    'name, before, after, makes',
    [
        ('test', '', '--work-dir {0}/tested --out {0}/scores.pkl', 'scores.pkl'),
        ('test', '', '--work-dir {0}/tta --tta --out {0}/tta.pkl', 'tta.pkl'),
        ('test', '', '--work-dir {0}/drawn --show-dir {0}/shown', 'shown'),
        ('image_demo', '{0}/data/val/0.png', '--out-dir {0}/drawn', 'drawn/vis/0.png'),
        (
            'visualize_memory',
            '{0}/data/val/0.png',
            '--out-dir {0}/memory',
            'memory/memory_0.png',
        ),
        ('merge_adaptors', '', '{0}/merged.pth', 'merged.pth'),
    ],
    ids=lambda value: value if value.isidentifier() else '',
)
def test_every_tool(name, before, after, makes, folder, monkeypatch):
    before, after = (part.format(folder).split() for part in (before, after))
    files = [folder / 'new.py', folder / 'run' / 'epoch_1.pth']
    run(monkeypatch, name, *before, *files, *after)
    assert (folder / makes).exists()


def test_flops(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    pathlib.Path('new[a].py').symlink_to('new.py')
    run(monkeypatch, 'get_flops', 'new[a].py', '--shape', 32, 32)
    shown = capsys.readouterr().out
    assert 'new[a].py at 32 x 32' in shown and 'of which' in shown


def test_resume_skips_a_damaged_checkpoint(folder, monkeypatch, tmp_path):
    """Which only `mmadaptor.Runner` does."""
    good = (folder / 'run' / 'epoch_1.pth').read_bytes()
    (tmp_path / 'epoch_1.pth').write_bytes(good)
    (tmp_path / 'epoch_2.pth').write_bytes(good[:-9])
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    arguments = ['--work-dir', tmp_path, '--resume', *options]
    run(monkeypatch, 'train', folder / 'new.py', *arguments)
    assert torch.load(tmp_path / 'epoch_2.pth')['meta']['epoch'] == 2


def test_the_config_that_a_run_leaves_is_tested(folder, monkeypatch):
    """mmengine dumps classes as their full names."""
    files = [folder / 'run' / 'new.py', folder / 'run' / 'epoch_1.pth']
    run(monkeypatch, 'test', *files, '--work-dir', folder / 'again')
    assert Config.fromfile(files[0]).default_scope == 'mmpretrain'


def test_pictures_of_augmented_images_are_refused(folder, monkeypatch):
    """mmpretrain's hook does not draw them; its own tool ends with a traceback."""
    files = [folder / 'new.py', folder / 'run' / 'epoch_1.pth']
    with pytest.raises(SystemExit, match='--tta: mmpretrain cannot draw'):
        run(monkeypatch, 'test', *files, '--tta', '--show-dir', folder / 'never')
