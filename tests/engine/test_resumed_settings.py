# SPDX-License-Identifier: Apache-2.0
"""A training that is resumed otherwise than it was trained is told so."""

import pathlib

import pytest
import torch
from helpers.jobs import TOY, log_of_training, write_config
from mmengine.config import Config
from mmengine.optim import LinearLR
from torch.utils.data import BatchSampler

from mmadaptor.engine import Runner
from mmadaptor.engine.resumed_settings import _same
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
    cfg = Config.fromfile(path)
    cfg.experiment_name = str(tmp_path)  # of two in a second, the folder is the first's
    Runner.from_cfg(cfg).train()
    return path


def resume(config, **changes):
    """Resumes from the first epoch; returns the log."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {'resume': True, 'experiment_name': f'resumed{changes}', **changes}
    )
    cfg.load_from = cfg.get('load_from') or f'{cfg.work_dir}/epoch_2.pth'
    return log_of_training(cfg)


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
            'param_scheduler.1.T_max',
            9,
            'param_scheduler.1.T_max: 3 in the checkpoint, 9 in the config',
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


def test_another_optimizer_is_refused(config):
    with pytest.raises(InputError, match="'AdamW', the config says 'SGD'. To train"):
        resume(config, **{'optim_wrapper.optimizer.type': 'SGD'})


@pytest.mark.parametrize(
    'schedules, says',
    [
        ([dict(type='CosineAnnealingLR', T_max=9)], "'LinearLR', the config says 'Cos"),
        (
            [
                dict(type='ExponentialLR', gamma=0.9),
                dict(type='CosineAnnealingLR', T_max=3, by_epoch=True),
            ],
            "'LinearLR', the config says 'ExponentialLR'",
        ),
    ],
    ids=['fewer schedules', 'another schedule'],
)
def test_other_schedules_are_refused(schedules, says, config):
    """mmengine would put the state of one schedule into another."""
    with pytest.raises(InputError, match=f'{says}.*load_from=CHECKPOINT'):
        resume(config, param_scheduler=schedules)


def test_other_groups_of_parameters_are_refused(config):
    changes = {'optim_wrapper.paramwise_cfg.custom_keys.ballast.lr_mult': 0.1}
    with pytest.raises(DamagedFileError, match='cannot be resumed from: ValueError: '):
        resume(config, **changes)


def test_a_checkpoint_of_another_runner_is_taken(config, tmp_path):
    content = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    del content['meta']['training']
    torch.save(content, tmp_path / 'stock.pth')
    log = resume(config, load_from=str(tmp_path / 'stock.pth'))
    assert 'is resumed otherwise' not in log


def test_averaged_weights_without_their_hook_are_named(config, tmp_path):
    hooks = [dict(type='EMAHook')]
    resume(config, custom_hooks=hooks)
    path = str(tmp_path / 'run' / 'epoch_3.pth')
    assert 'ema_state_dict' in torch.load(path)
    log = resume(config, load_from=path)
    assert 'the training continues from the averaged weights' in log
    assert 'ema_state_dict' not in resume(config, load_from=path, custom_hooks=hooks)


def test_the_batch_size_of_a_batch_sampler_is_known(config):
    """mmdet's COCO configs have one."""
    changes = {
        'train_dataloader.batch_sampler': dict(type=BatchSampler, drop_last=False),
        'train_dataloader.batch_size': 4,
    }
    log = resume(config, **changes)
    assert 'batch_size: 2 in the checkpoint, 4 in the config' in log


@pytest.mark.parametrize(
    'changes',
    [
        {'optim_wrapper.optimizer.type': 'torch.optim.AdamW'},
        {'optim_wrapper.optimizer.type': torch.optim.AdamW},
        {'optim_wrapper.optimizer.type': 'torch.optim.adamw.AdamW'},
        {'optim_wrapper.optimizer.type': 'mmengine.AdamW'},
        {'param_scheduler.0.type': LinearLR},
        {'param_scheduler.0.type': 'mmengine.optim.LinearLR'},
        {'optim_wrapper.optimizer.betas': [0.9, 0.95]},
    ],
    ids=str,
)
def test_another_name_of_the_same_is_no_change(changes, config):
    """As in the config that a run leaves, where a class is its full name."""
    text = pathlib.Path(config).read_text()
    pathlib.Path(config).write_text(text.replace('lr=0.01', 'lr=0.01, betas=(.9, .95)'))
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {'experiment_name': f'again{changes}', 'work_dir': config + '_'}
    )
    Runner.from_cfg(cfg).train()
    changes = {**changes, 'load_from': f'{cfg.work_dir}/epoch_2.pth'}
    assert 'is resumed otherwise' not in resume(config, **changes)
    for name, value in changes.items():
        cfg.merge_from_dict({name: value})
    cfg.merge_from_dict({'experiment_name': f'third{changes}', 'resume': True})
    cfg.work_dir = config + '_2'
    Runner.from_cfg(cfg).train()  # and what it saves fits the first config
    path = f'{cfg.work_dir}/epoch_3.pth'
    assert 'is resumed otherwise' not in resume(config, load_from=path)


def test_a_schedule_alone_is_a_list_of_one(config, tmp_path):
    schedule = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)
    cfg = Config.fromfile(config)
    cfg.param_scheduler = schedule
    cfg.merge_from_dict({'experiment_name': 'alone', 'work_dir': config + '_'})
    Runner.from_cfg(cfg).train()
    path = f'{cfg.work_dir}/epoch_2.pth'
    content = torch.load(path)  # as saved by the versions before
    saved = content['meta']['training']
    old = {key.replace('scheduler.0', 'scheduler'): saved[key] for key in saved}
    content['meta']['training'] = old
    torch.save(content, tmp_path / 'old.pth')
    for before in (path, str(tmp_path / 'old.pth')):
        for same in (schedule, [schedule], (schedule,)):
            cfg.update(param_scheduler=same, resume=True, load_from=before)
            assert 'is resumed otherwise' not in log_of_training(cfg)


def test_the_text_of_a_checkpoint_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / 'planted.py').write_text('raise SystemExit')
    monkeypatch.syspath_prepend(str(tmp_path))
    key = 'optim_wrapper.optimizer.type'
    assert not _same(key, "'planted.AdamW'", "'AdamW'")
    assert not _same(key, "<class 'planted.AdamW'>", "'AdamW'")
    assert _same(key, "<class 'torch.optim.adamw.AdamW'>", "'AdamW'")
    assert not _same(key, "'SGD'", "'AdamW'")
    assert not _same(key, 'not set', "'AdamW'")
