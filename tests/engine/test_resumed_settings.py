# SPDX-License-Identifier: Apache-2.0
"""A training that is resumed otherwise than it was trained is told so."""

import pathlib

import pytest
import torch
from helpers.jobs import TOY, write_config
from mmengine.config import Config

from mmadaptor.engine import Runner
from mmadaptor.errors import DamagedFileError, InputError

SCHEDULE = """
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
    dict(type='CosineAnnealingLR', T_max=3, by_epoch=True)]
train_dataloader.update(num_workers=0)
"""


@pytest.fixture
def config(tmp_path):
    path = write_config(tmp_path, TOY + SCHEDULE, work_dir=str(tmp_path / 'run'))
    Runner.from_cfg(Config.fromfile(path)).train()
    return path


def resume(config, **changes):
    """Resumes from the first epoch; returns the log."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({'resume': True, 'experiment_name': 'resumed', **changes})
    cfg.load_from = cfg.get('load_from') or f'{cfg.work_dir}/epoch_2.pth'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return pathlib.Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def test_as_it_was_trained_nothing_is_said(config):
    assert 'is resumed otherwise' not in resume(config)


@pytest.mark.parametrize(
    'key, value, line',
    [
        (
            'train_cfg.max_epochs',
            4,
            'train_cfg.max_epochs: 3 in the checkpoint, 4 in the config',
        ),
        (
            'train_dataloader.batch_size',
            4,
            'batch_size: 2 in the checkpoint, 4 in the config',
        ),
        (
            'param_scheduler',
            [dict(type='CosineAnnealingLR', T_max=9, by_epoch=True)],
            "param_scheduler.0.type: 'LinearLR' in the checkpoint, 'CosineAnnealingLR' "
            'in the config',
        ),
        (
            'optim_wrapper.optimizer.lr',
            0.5,
            'optim_wrapper.optimizer.lr: 0.01 in the checkpoint, 0.5 in the config',
        ),
        (
            'optim_wrapper.clip_grad',
            dict(max_norm=1.0),
            'optim_wrapper.clip_grad.max_norm: not set in the checkpoint, 1.0 in the '
            'config',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else '',
)
def test_what_differs_is_named(key, value, line, config):
    log = resume(config, **{key: value})
    assert 'epoch_2.pth is resumed otherwise than it was trained:' in log
    assert line in log
    assert 'start from the weights: --cfg-options load_from=' in log


def test_the_sentence_on_the_optimizer_is_true(config):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {
            'resume': True,
            'load_from': f'{cfg.work_dir}/epoch_2.pth',
            'optim_wrapper.optimizer.weight_decay': 0.5,
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.optim_wrapper.param_groups[0]['weight_decay'] == 0.01


@pytest.mark.parametrize('part', ['optimizer', 'param_schedulers'])
def test_a_checkpoint_without_a_part_is_told(part, config, tmp_path):
    content = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    del content[part]
    torch.save(content, tmp_path / 'less.pth')
    log = resume(config, load_from=str(tmp_path / 'less.pth'))
    assert f'{part}: not in the checkpoint; it starts as in the config' in log


def test_a_state_of_another_shape_is_named(config, tmp_path):
    path = tmp_path / 'run' / 'epoch_2.pth'
    content = torch.load(path, weights_only=False)
    states = next(iter(content['optimizer']['state'].values()))
    name = next(key for key, value in states.items() if value.dim())
    states[name] = torch.zeros(3, 5, 7)
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(DamagedFileError, match=rf'{name} of shape \(3, 5, 7\) for'):
        resume(config, load_from=str(tmp_path / 'other.pth'))


def test_another_optimizer_is_refused(config):
    with pytest.raises(InputError, match="'AdamW', the config 'SGD'. To train with"):
        resume(config, **{'optim_wrapper.optimizer.type': 'SGD'})
