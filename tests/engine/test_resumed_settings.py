# SPDX-License-Identifier: Apache-2.0
"""A training that is resumed otherwise than it was trained is told so."""

import pytest
import torch
from helpers.jobs import TOY, log_of_training, write_config
from mmengine.config import Config
from torch.utils.data import BatchSampler

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


def test_groups_of_another_version_of_torch_are_taken(config, tmp_path):
    """torch adds keys to the groups of an optimizer, and reads files without them."""
    content = torch.load(tmp_path / 'run' / 'epoch_2.pth')
    for group in content['optimizer']['param_groups']:
        assert group.pop('decoupled_weight_decay') is True
        group['of_a_later_version'] = None
    torch.save(content, tmp_path / 'older.pth')
    said = resume(config, load_from=str(tmp_path / 'older.pth'))
    assert 'is resumed otherwise' not in said


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


@pytest.mark.parametrize(
    'changes, says',
    [
        (
            {'param_scheduler': [dict(type='CosineAnnealingLR', T_max=9)]},
            '`param_scheduler`: the checkpoint has the states of other schedules',
        ),
        (
            {
                'param_scheduler': [
                    dict(type='ExponentialLR', gamma=0.9),
                    dict(type='CosineAnnealingLR', T_max=3, by_epoch=True),
                ]
            },
            '`param_scheduler`: the checkpoint has the states of other schedules',
        ),
        (
            {'optim_wrapper.paramwise_cfg.custom_keys.ballast.lr_mult': 0.1},
            '`optimizer`: the checkpoint has the states of other groups of parameters',
        ),
    ],
    ids=['fewer schedules', 'another schedule', 'other groups'],
)
def test_states_that_do_not_belong_to_the_config_are_refused(changes, says, config):
    """mmengine would put the state of one schedule into another."""
    with pytest.raises(InputError, match=f'{says}.*load_from=CHECKPOINT'):
        resume(config, **changes)


@pytest.fixture
def stock(config, tmp_path):
    """Return a checkpoint as mmengine's own runner saves it."""
    content = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    del content['meta']['training']
    torch.save(content, tmp_path / 'stock.pth')
    return str(tmp_path / 'stock.pth')


@pytest.mark.parametrize(
    'changes, line',
    [
        (
            {'param_scheduler.1.T_max': 9},
            'param_scheduler.1.T_max: 3 in the checkpoint, 9 in the config',
        ),
        (
            {'optim_wrapper.optimizer.lr': 0.5},
            'optimizer.0.initial_lr: 0.01 in the checkpoint, 0.5 in the config',
        ),
        (
            {'optim_wrapper.optimizer.weight_decay': 0.5},
            'optimizer.0.weight_decay: 0.01 in the checkpoint, 0.5 in the config',
        ),
    ],
    ids=['schedule', 'rate', 'decay'],
)
def test_what_a_stock_checkpoint_replaces_is_named(changes, line, config, stock):
    log = resume(config, load_from=stock, **changes)
    assert line in log and log.count(' in the checkpoint, ') == 1


def test_a_stock_checkpoint_as_it_was_trained(config, stock):
    assert 'is resumed otherwise' not in resume(config, load_from=stock)


def test_another_optimizer_of_a_stock_checkpoint_is_refused(config, stock):
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, _delete_=True)
    with pytest.raises(InputError, match='states of other groups of parameters or opt'):
        resume(config, load_from=stock, **{'optim_wrapper.optimizer': optimizer})


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
