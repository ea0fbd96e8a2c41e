# SPDX-License-Identifier: Apache-2.0
"""A training that is resumed otherwise than it was trained is told so."""

import pathlib

import pytest
import torch
from helpers.jobs import RUNS, TOY, log_of_training, write_config
from mmengine.config import Config
from mmengine.optim import LinearLR
from mmengine.registry import OPTIMIZERS
from torch.utils.data import BatchSampler

from mmadaptor.engine import Runner
from mmadaptor.engine.resumed_settings import WHICH, _same, report, settings_of
from mmadaptor.errors import DamagedFileError, InputError

SCHEDULE = """
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
    dict(type='CosineAnnealingLR', T_max=3, by_epoch=True)]
train_dataloader.update(num_workers=0)
"""


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, TOY + SCHEDULE, work_dir=str(tmp_path / 'run'))


def build(config, **changes):
    """Builds a runner; it does not train."""
    cfg = Config.fromfile(config)
    if 'param_scheduler' in changes:
        cfg.param_scheduler = changes.pop('param_scheduler')
    cfg.merge_from_dict({'experiment_name': f'built_{next(RUNS)}', **changes})
    return Runner.from_cfg(cfg)


def said(saved, runner, without=None, **parts):
    """What is said if a runner resumes a training that had some settings."""
    checkpoint = {'optimizer': {}, 'param_schedulers': [], **parts}
    checkpoint.pop(without, None)
    meta = {} if saved is None else dict(training=saved)
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.logger, 'warning', texts.append)
        report(meta, checkpoint, runner, 'epoch_2.pth')
    return '\n'.join(texts)


CHANGES = [
    ('train_cfg.max_epochs', 4, 'train_cfg.max_epochs: 3 {}, 4 {}'),
    ('train_dataloader.batch_size', 4, 'batch_size: 2 {}, 4 {}'),
    ('param_scheduler.1.T_max', 9, 'param_scheduler.1.T_max: 3 {}, 9 {}'),
    ('optim_wrapper.optimizer.lr', 0.5, 'optim_wrapper.optimizer.lr: 0.01 {}, 0.5 {}'),
    (
        'optim_wrapper.clip_grad',
        dict(max_norm=1.0),
        'optim_wrapper.clip_grad.max_norm: not set {}, 1.0 {}',
    ),
    # As in mmdet's COCO configs: a loader with one knows no batch size.
    (
        'train_dataloader',
        dict(batch_size=4, batch_sampler=dict(type=BatchSampler, drop_last=False)),
        'batch_size: 2 {}, 4 {}',
    ),
]


@pytest.mark.parametrize('key, value, line', CHANGES, ids=[key for key, *_ in CHANGES])
def test_what_differs_is_named(key, value, line, config):
    saved = settings_of(build(config))
    assert said(saved, build(config)) == ''
    text = said(saved, build(config, **{key: value}))
    title, *lines, which, how = text.split('\n  ')
    assert title == 'epoch_2.pth is resumed otherwise than it was trained:'
    assert lines == [line.format('in the checkpoint', 'in the config')]
    assert which == WHICH
    assert 'start from the weights: --cfg-options load_from=' in how


def test_a_training_and_its_checkpoint_are_compared(config, tmp_path):
    """And the sentence on the optimizer is true: its numbers are the checkpoint's."""
    build(config).train()
    cfg = Config.fromfile(config)
    path = f'{cfg.work_dir}/epoch_2.pth'
    cfg.update(resume=True, load_from=path)
    assert 'is resumed otherwise' not in log_of_training(cfg)
    changes = {'optim_wrapper.optimizer.weight_decay': 0.5, 'resume': True}
    runner = build(config, load_from=path, **changes)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.logger, 'warning', lines.append)
        runner.train()
    (text,) = lines
    decay = 'weight_decay: not set in the checkpoint, 0.5 in the config'
    assert f'{path} is resumed otherwise than it was trained:' in text and decay in text
    assert runner.optim_wrapper.param_groups[0]['weight_decay'] == 0.01
    groups = {'optim_wrapper.paramwise_cfg.custom_keys.ballast.lr_mult': 0.1}
    with pytest.raises(DamagedFileError, match='cannot be resumed from: ValueError: '):
        build(config, load_from=path, resume=True, **groups).train()


@pytest.mark.parametrize('part', ['optimizer', 'param_schedulers'])
def test_a_checkpoint_without_a_part_is_told(part, config):
    runner = build(config)
    text = said(settings_of(runner), runner, without=part)
    assert f'{part}: not in the checkpoint; it starts as in the config' in text
    runner.param_schedulers = None
    assert bool(said(None, runner, without=part)) == (part == 'optimizer')


REFUSED = [
    ({'optim_wrapper.optimizer.type': 'SGD'}, "'AdamW', the config says 'SGD'"),
    (
        dict(param_scheduler=[dict(type='CosineAnnealingLR', T_max=9)]),
        "'LinearLR', the config says 'CosineAnnealingLR'",
    ),
    (
        dict(
            param_scheduler=[
                dict(type='ExponentialLR', gamma=0.9),
                dict(type='CosineAnnealingLR', T_max=3, by_epoch=True),
            ]
        ),
        "'LinearLR', the config says 'ExponentialLR'",
    ),
]


@pytest.mark.parametrize('changes, says', REFUSED, ids=[says for _, says in REFUSED])
def test_states_of_another_optimizer_or_schedule_are_refused(changes, says, config):
    """mmengine would put the state of one schedule into another."""
    saved = settings_of(build(config))
    with pytest.raises(InputError, match=f'{says}. To train .*load_from=CHECKPOINT'):
        said(saved, build(config, **changes))


def test_an_optimizer_of_ones_own_may_take_the_states_of_another(config):
    kind = type('OwnAdamW', (torch.optim.AdamW,), {'__module__': 'own'})
    OPTIMIZERS.register_module('OwnAdamW', module=kind, force=True)
    saved = settings_of(build(config))
    text = said(saved, build(config, **{'optim_wrapper.optimizer.type': 'OwnAdamW'}))
    assert "type: 'AdamW' in the checkpoint, 'OwnAdamW' in the config" in text


def test_a_checkpoint_of_another_runner_is_taken(config):
    assert said(None, build(config)) == ''
    assert said('none', build(config)) == ''


def test_what_a_config_cannot_say_is_not_compared(config):
    """A program gave its optimizer to the runner; or a value is too long to be saved."""
    runner = build(config, **{'optim_wrapper.note': 'x' * 300})
    saved = settings_of(runner)
    assert said(saved, runner) == ''
    runner.cfg.pop('optim_wrapper')
    assert said(saved, runner) == ''


def test_averaged_weights_without_their_hook_are_named(config):
    averages = dict(ema_state_dict={})
    text = said(None, build(config), **averages)
    assert 'the training continues from the averaged weights' in text
    assert (
        said(None, build(config, custom_hooks=[dict(type='EMAHook')]), **averages) == ''
    )


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
        {'optim_wrapper.clip_grad': None},
    ],
    ids=str,
)
def test_another_name_of_the_same_is_no_change(changes, config):
    """As in the config that a run leaves, where a class is its full name."""
    text = pathlib.Path(config).read_text()
    pathlib.Path(config).write_text(text.replace('lr=0.01', 'lr=0.01, betas=(.9, .95)'))
    one, other = build(config), build(config, **changes)
    for saved, now in ((one, other), (other, one)):
        assert said(settings_of(saved), now) == ''


def test_a_schedule_alone_is_a_list_of_one(config):
    schedule = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)
    alone, *others = (
        build(config, param_scheduler=same)
        for same in (schedule, [schedule], (schedule,))
    )
    saved = settings_of(alone)
    assert 'param_scheduler.0.type' in saved
    # As saved by the versions before.
    old = {key.replace('scheduler.0', 'scheduler'): saved[key] for key in saved}
    assert 'param_scheduler.type' in old
    for before in (saved, old):
        for now in (alone, *others):
            assert said(before, now) == ''


def test_the_text_of_a_checkpoint_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / 'planted.py').write_text('raise SystemExit')
    monkeypatch.syspath_prepend(str(tmp_path))
    key = 'optim_wrapper.optimizer.type'
    assert not _same(key, "'planted.AdamW'", "'AdamW'")
    assert not _same(key, "<class 'planted.AdamW'>", "'AdamW'")
    assert _same(key, "<class 'torch.optim.adamw.AdamW'>", "'AdamW'")
    assert not _same(key, "'SGD'", "'AdamW'")
    assert not _same(key, 'not set', "'AdamW'")
