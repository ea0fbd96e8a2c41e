# SPDX-License-Identifier: Apache-2.0
"""What `mmadaptor.Runner` does with checkpoints, hooks and loaders."""

import errno
import re
import sys

import pytest
import torch
from helpers.jobs import TOY, write_config
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner import find_latest_checkpoint

from mmadaptor.checkpoints.integrity import MARK
from mmadaptor.engine import Runner
from mmadaptor.errors import (
    CheckpointMismatchError,
    CheckpointWriteError,
    DamagedFileError,
    InputError,
    UnsafeCheckpointError,
)


def training(folder, epochs=1, hooks='', **others):
    """The config of a training of the toy."""
    folder.mkdir(exist_ok=True)
    cfg = Config.fromfile(write_config(folder, TOY + hooks, work_dir=str(folder)))
    cfg.train_cfg.max_epochs = epochs
    cfg.train_dataloader.num_workers = 0
    cfg.update(
        experiment_name=f'{folder}{epochs}{sorted(others)}', randomness=dict(seed=3)
    )
    for key, value in others.items():
        cfg[key] = value
    return cfg


def train(*args, **kwargs):
    runner = Runner.from_cfg(training(*args, **kwargs))
    runner.train()
    return runner


def load(path):
    return torch.load(path, weights_only=False)


def assert_same(got, expected, *parts):
    for part in parts:
        torch.testing.assert_close(got[part], expected[part], rtol=0, atol=0)


def test_a_training_leaves_whole_checkpoints(tmp_path):
    train(tmp_path, 3)
    assert {p.name for p in tmp_path.glob('*.p*')} == {
        'epoch_2.pth', 'epoch_3.pth', 'config.py', 'curves.png',
    }  # fmt: skip


def test_a_dry_run_leaves_no_trace(tmp_path, monkeypatch):
    """Also without the hook that seeds each iteration."""
    hooks = dict(default_hooks=dict(exact_resume=None))
    train(tmp_path / 'tried', 2, **hooks)
    monkeypatch.setattr('mmadaptor.engine.runner.dry_run', lambda runner: None)
    train(tmp_path / 'untried', 2, **hooks)
    got, expected = (
        load(tmp_path / name / 'epoch_2.pth') for name in ('tried', 'untried')
    )
    assert_same(got, expected, 'state_dict')
    torch.testing.assert_close(
        got['optimizer']['state'], expected['optimizer']['state'], rtol=0, atol=0
    )


@pytest.mark.parametrize('resume, seed', [(True, None), ('auto', 9)])
def test_resume_takes_the_newest_and_its_seed(tmp_path, resume, seed):
    train(tmp_path / 'unbroken', 3)
    train(tmp_path / 'resumed', 2)
    others = dict(resume=resume, randomness=dict(seed=seed))
    runner = train(tmp_path / 'resumed', 3, **others)
    assert runner.seed == 3
    got, expected = (
        load(tmp_path / n / 'epoch_3.pth') for n in ('resumed', 'unbroken')
    )
    assert_same(got, expected, 'state_dict')
    assert got['meta']['iter'] == expected['meta']['iter'] == 12


def test_auto_starts_from_load_from_if_there_is_nothing_to_resume(tmp_path):
    train(tmp_path / 'base', 1)
    base = tmp_path / 'base' / 'epoch_1.pth'
    runner = Runner.from_cfg(
        training(tmp_path / 'new', 1, resume='auto', load_from=str(base))
    )
    assert (runner._resume, runner._load_from) == (False, str(base))
    runner = Runner.from_cfg(
        training(tmp_path / 'base', 1, resume='auto', load_from='other.pth')
    )
    assert (runner._resume, runner._load_from) == (True, str(base))


@pytest.mark.parametrize('job', ['test', 'val'])
def test_a_test_loads_what_is_named_and_resumes_nothing(tmp_path, job, monkeypatch):
    """The config that a resumed training leaves says `resume='auto'`."""
    resumed, original = [], Runner.resume
    monkeypatch.setattr(
        Runner,
        'resume',
        lambda self, path: (resumed.append(path), original(self, path)),
    )
    train(tmp_path, 2)
    named, newest = (str(tmp_path / f'epoch_{n}.pth') for n in (1, 2))
    for path in (named, None):
        runner = Runner.from_cfg(training(tmp_path, 3, resume='auto', load_from=path))
        getattr(runner, job)()
        expected = load(path or newest)
        assert_same(dict(state_dict=runner.model.state_dict()), expected, 'state_dict')
    assert resumed == []
    runner.train()
    assert resumed == [newest]


def test_a_test_needs_no_checkpoint_to_resume_from(tmp_path):
    """Those of its training were moved; what it loads is checked instead."""
    train(tmp_path / 'run', 1)
    named = (tmp_path / 'run' / 'epoch_1.pth').rename(tmp_path / 'best.pth')
    settings = dict(resume='auto', load_from=str(named))
    runner = Runner.from_cfg(training(tmp_path / 'run', 2, **settings))
    runner.test()
    expected = load(named)
    assert_same(dict(state_dict=runner.model.state_dict()), expected, 'state_dict')
    with pytest.raises(InputError, match='last_checkpoint names .*epoch_1.pth: expec'):
        runner.train()
    settings['load_from'] = str(tmp_path / 'none.pth')
    with pytest.raises(InputError, match='none.pth'):
        Runner.from_cfg(training(tmp_path / 'run', 3, **settings)).test()
    del settings['load_from']
    with pytest.raises(InputError, match='last_checkpoint names .*epoch_1.pth: expec'):
        Runner.from_cfg(training(tmp_path / 'run', 4, **settings))


def test_a_checkpoint_of_a_test_is_checked_and_not_the_newest(tmp_path):
    train(tmp_path, 1)
    settings = dict(resume='auto', load_from=str(tmp_path / 'damaged.pth'))
    (tmp_path / 'damaged.pth').write_bytes((tmp_path / 'epoch_1.pth').read_bytes()[:99])
    with pytest.raises(
        InputError, match='Test not started.*[\\s\\S]*damaged.pth is trunc'
    ):
        Runner.from_cfg(training(tmp_path, 2, **settings)).test()


def test_a_resumed_training_does_without_its_base(tmp_path):
    """Its checkpoint has all weights; the file of `init_cfg` may be gone."""
    base = tmp_path / 'base.pth'
    state = Runner.from_cfg(training(tmp_path)).model.state_dict()
    torch.save(dict(state_dict=state), base)
    init_cfg = dict(type='Pretrained', checkpoint=str(base))
    model = dict(type='ToyModel', width=50000, init_cfg=init_cfg)
    train(tmp_path / 'run', 1, model=model)
    base.unlink()
    with pytest.raises(InputError, match=f'{base}'):
        train(tmp_path / 'again', 1, model=model)
    assert train(tmp_path / 'run', 2, model=model, resume=True).epoch == 2


def test_what_is_resumed_from_elsewhere_is_opened_later(tmp_path):
    """An address, or the folder of a sharded checkpoint."""
    for path in ('s3://bucket/epoch_1.pth', str(tmp_path)):
        cfg = training(tmp_path, resume=True, load_from=path)
        assert Runner.from_cfg(cfg)._needs_base  # it may hold adaptors only
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        cfg.pop(key)
    cfg.load_from = 'none.pth'  # a test opens it when it loads it
    Runner.from_cfg(cfg)


@pytest.mark.parametrize(
    'error, expected',
    [
        (ValueError('odd'), 'DamagedFileError: a.pth cannot be .* from: .*: odd'),
        (InputError('other'), 'InputError: other'),
        (torch.OutOfMemoryError('full'), 'OutOfMemoryError: full'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_why_a_training_cannot_be_resumed_is_said(error, expected, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(MMEngineRunner, 'resume', fail)
    with pytest.raises(Exception) as raised:
        Runner.resume(object.__new__(Runner), 'a.pth')
    assert re.fullmatch(expected, f'{type(raised.value).__name__}: {raised.value}')


def test_what_cannot_be_resumed_from_is_named_first(tmp_path):
    with pytest.raises(InputError, match=r'none/epoch_7\.pth: no such checkpoint'):
        Runner.from_cfg(training(tmp_path, resume=True, load_from='none/epoch_7.pth'))
    torch.save(dict(state_dict={}), tmp_path / 'weights.pth')
    with pytest.raises(DamagedFileError, match='has no meta and no message_hub'):
        Runner.from_cfg(
            training(tmp_path, resume=True, load_from=str(tmp_path / 'weights.pth'))
        )


def test_a_config_in_a_checkpoint_is_never_executed(tmp_path):
    train(tmp_path, 1)
    content = load(tmp_path / 'epoch_1.pth')
    mark = tmp_path / 'ran'
    content['meta']['config'] = f'import os\nos.mkdir({str(mark)!r})\n'
    torch.save(content, tmp_path / 'epoch_1.pth')
    assert train(tmp_path, 2, resume=True).epoch == 2
    assert not mark.exists()


def test_another_model_is_refused_by_its_names(tmp_path):
    train(tmp_path / 'a', 1)
    cfg = training(tmp_path / 'b', load_from=str(tmp_path / 'a' / 'epoch_1.pth'))
    cfg.model.width = 7
    with pytest.raises(
        CheckpointMismatchError, match=r'ballast: expected \(7,\), got \(50000,\)'
    ):
        Runner.from_cfg(cfg).train()
    # Except for what is named; only if a training starts.
    skip = dict(type='mmadaptor.StrictLoadHook', skip=['ballast'])
    for hooks in (
        dict(default_hooks=dict(strict_load=skip)), dict(custom_hooks=[skip]),
    ):  # fmt: skip
        cfg.experiment_name += 'skip'
        Runner.from_cfg({**cfg.to_dict(), **hooks}).train()
    cfg.experiment_name += 'test'
    runner = Runner.from_cfg({**cfg.to_dict(), **hooks})
    with pytest.raises(CheckpointMismatchError, match='ballast'):
        runner.test()


def test_loading_is_weights_only(tmp_path):
    class Planted:
        def __reduce__(self):
            return (tmp_path / 'ran').mkdir, ()

    state = Runner.from_cfg(training(tmp_path)).model.state_dict()
    torch.save(dict(state_dict=state, x=Planted()), tmp_path / 'bad.pth')
    runner = Runner.from_cfg(
        training(tmp_path / 'b', load_from=str(tmp_path / 'bad.pth'))
    )
    for read in (
        runner.test,
        lambda: runner.load_checkpoint(str(tmp_path / 'bad.pth')),
    ):
        with pytest.raises(InputError, match='bad.pth holds a pickled object') as error:
            read()
    assert isinstance(error.value, UnsafeCheckpointError)
    assert not (tmp_path / 'ran').exists()


def test_names_with_the_prefix_of_a_wrapper(tmp_path):
    runner = Runner.from_cfg(training(tmp_path))
    state = {
        f'module.{k}': torch.full_like(v, 2)
        for k, v in runner.model.state_dict().items()
    }
    torch.save(state, tmp_path / 'bare.pth')
    runner.load_checkpoint(str(tmp_path / 'bare.pth'))
    assert all((p == 2).all() for p in runner.model.parameters())
    state = {f'old.{k}': torch.full_like(v, 3) for k, v in state.items()}
    torch.save(state, tmp_path / 'old.pth')
    names = [(r'^old\.module\.', '')]
    runner.load_checkpoint(str(tmp_path / 'old.pth'), revise_keys=names)
    assert all((p == 3).all() for p in runner.model.parameters())


def test_a_checkpoint_is_saved_without_meta(tmp_path):
    """As by hooks of others."""
    runner = Runner.from_cfg(training(tmp_path))
    parts = dict(save_optimizer=False, save_param_scheduler=False)
    runner.save_checkpoint(str(tmp_path), 'own.pth', **parts)
    assert MARK in (tmp_path / 'own.pth').read_bytes()[-200:]
    expected = dict(state_dict=runner.model.state_dict())
    assert_same(load(tmp_path / 'own.pth'), expected, 'state_dict')


def test_a_full_disk_says_how_to_continue_and_keeps_one_checkpoint(
    tmp_path, monkeypatch
):
    one = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1))
    train(tmp_path, 2, default_hooks=one)
    assert {p.name for p in tmp_path.glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(
        CheckpointWriteError, match=r'epoch_3\.pth .*No space left.*then resume'
    ):
        train(tmp_path, 3, resume=True, default_hooks=one)
    assert find_latest_checkpoint(str(tmp_path)).endswith('epoch_2.pth')
    assert {p.name for p in tmp_path.glob('*.pth*')} == {'epoch_2.pth'}


def averaged(folder, epochs, **others):
    """Trains the toy with averaged weights; returns its last checkpoint."""
    hooks = """
custom_hooks = [dict(type='mmpretrain.EMAHook', momentum=.2, priority='ABOVE_NORMAL')]
"""
    train(folder, epochs, hooks, **others)
    return load(folder / f'epoch_{epochs}.pth')


def test_averaged_weights_are_saved_and_resumed_exactly(tmp_path):
    """The averages are the checkpoint's `state_dict`, which others start from."""
    pytest.importorskip('mmpretrain.engine')
    expected = averaged(tmp_path / 'unbroken', 3)
    trained = {
        k.removeprefix('module.'): v for k, v in expected['ema_state_dict'].items()
    }
    assert not torch.equal(
        expected['state_dict']['layer.weight'], trained['layer.weight']
    )
    averaged(tmp_path / 'resumed', 2)
    got = averaged(tmp_path / 'resumed', 3, resume=True)
    assert_same(got, expected, 'state_dict', 'ema_state_dict')


def names_of(runner):
    return [type(hook).__name__ for hook in runner.hooks]


def test_default_hooks_of_ours_and_none(tmp_path):
    runner = Runner.from_cfg(training(tmp_path, default_hooks=dict(timer=None)))
    assert {'ExactResumeHook', 'StrictLoadHook'} < set(names_of(runner))
    assert 'IterTimerHook' not in names_of(runner)
    runner = Runner.from_cfg(
        training(
            tmp_path / 'b', default_hooks=dict(exact_resume=None, curves=None, log=None)
        )
    )
    assert 'ExactResumeHook' not in names_of(runner)


def test_custom_hooks_do_not_replace_ours(tmp_path):
    @HOOKS.register_module(force=True)
    class OfOnesOwn(Hook):
        pass

    cfg = training(tmp_path, custom_hooks=[dict(type='OfOnesOwn')])
    assert {'OfOnesOwn', 'ExactResumeHook', 'StrictLoadHook'} < set(
        names_of(Runner.from_cfg(cfg))
    )


def test_a_single_checkpoint_becomes_two(tmp_path):
    runner = Runner.from_cfg(training(tmp_path))
    for kept, expected in ((1, 2), (2, 2), (-1, -1)):
        hook = CheckpointHook(max_keep_ckpts=kept)
        runner.register_hook(hook)
        assert hook.max_keep_ckpts == expected


def test_a_wrong_hook_is_named(tmp_path):
    with pytest.raises(InputError, match='`hooks` of the config: NoHook is not in'):
        Runner.from_cfg(training(tmp_path, custom_hooks=[dict(type='NoHook')]))


def test_settings_for_workers_without_workers_are_dropped(tmp_path):
    cfg = training(tmp_path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=True, prefetch_factor=2)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.train_dataloader.persistent_workers is False


def test_a_training_without_a_batch_is_refused(tmp_path):
    cfg = training(tmp_path)
    cfg.train_dataloader.update(batch_size=9, drop_last=True)
    with pytest.raises(InputError, match='no batch: its 8 samples are fewer than'):
        Runner.from_cfg(cfg).train()


def test_a_training_by_iterations_without_a_batch_is_refused(tmp_path):
    cfg = training(tmp_path)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.train_dataloader.update(batch_size=9, drop_last=True)
    with pytest.raises(InputError, match='no batch: its 8 samples are fewer than'):
        Runner.from_cfg(cfg).train()
    # This one goes on from round to round, and fills its batches.
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    cfg.experiment_name += ' without end'
    Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_an_epoch_that_never_ends_is_refused(split, tmp_path):
    """The base configs of mmseg have this sampler, and train by iterations."""
    cfg = training(tmp_path)
    cfg[f'{split}_dataloader'].sampler = dict(type='InfiniteSampler')
    runner = Runner.from_cfg(cfg)
    with pytest.raises(InputError, match=f'`{split}_dataloader` never ends: its sam'):
        runner.test() if split == 'test' else runner.train()


@pytest.mark.parametrize('interval', [0, None, '1'])
def test_an_interval_of_validations_is_a_number(interval, tmp_path):
    """mmengine divides by it after the first epoch."""
    cfg = training(tmp_path)
    cfg.train_cfg.val_interval = interval
    with pytest.raises(InputError, match=f'`train_cfg.val_int.* got {interval!r}'):
        Runner.from_cfg(cfg).train()
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    Runner.from_cfg(cfg).train()


@pytest.mark.parametrize(
    'key, value, says',
    [
        (
            'optim_wrapper',
            dict(optimizer=dict(type='AdamV', lr=1)),
            'AdamV is not in the',
        ),
        (
            'optim_wrapper',
            dict(clip_grad=dict(max_norm=1, norm_typ=2)),
            r"clip_grad: .*argument 'norm_typ'; clip_grad_norm_ takes max_norm, norm_t",
        ),
        ('param_scheduler', [dict(type='LinearLR', lr=1)], "argument 'lr'"),
        ('val_dataloader', dict(batch_size='1'), 'batch_size=1'),
        ('log_level', 'verbose', 'verbose'),
        ('model', dict(init_cfg=dict(type='Pretraind')), 'Pretraind'),
        (
            'visualizer',
            dict(type='Visualizer', vis_backends=[dict(type='WandbVisBackend')]),
            'pip install wandb',
        ),
        ('train_cfg', dict(by_epoch=True, epochs=1), "argument 'epochs'"),
    ],
)
def test_other_wrong_parts_are_named(key, value, says, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)  # not installed
    cfg = training(tmp_path)
    cfg.merge_from_dict({key: value})
    with pytest.raises(InputError, match=f'`{key}`.* of the config: .*{says}'):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('kind', ['LARS', 'mmpretrain.LARS'])
def test_optimizers_of_a_toolbox_are_found_in_its_scope(kind, tmp_path):
    """As in mmpretrain's recipes of SimCLR (LARS) and `rsb` (Lamb)."""
    pytest.importorskip('mmpretrain')
    optimizer = dict(type=kind, lr=0.1)
    cfg = training(tmp_path, optim_wrapper=dict(optimizer=optimizer))
    cfg.default_scope = 'mmpretrain'
    runner = Runner.from_cfg(cfg)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    assert type(wrapper.optimizer).__name__ == 'LARS'


def test_one_training_at_a_time_uses_a_folder(tmp_path, monkeypatch):
    def held(*_):
        raise BlockingIOError

    monkeypatch.setattr('fcntl.lockf', held)
    with pytest.raises(InputError, match=f'{tmp_path} is used by another training'):
        train(tmp_path)
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('is_main', [True, False])
def test_the_process_that_has_the_lock_removes_parts(is_main, tmp_path, monkeypatch):
    """Another one may be of a second training, which is refused."""
    runner = Runner.from_cfg(training(tmp_path))
    part = tmp_path / 'epoch_1.pth.part'
    part.touch()
    monkeypatch.setattr(MMEngineRunner, 'train', lambda self: None)
    monkeypatch.setattr('mmadaptor.engine.runner.log_summary', lambda runner: None)
    for module in ('mmengine.dist.utils', 'mmadaptor.engine.lock'):
        monkeypatch.setattr(f'{module}.is_main_process', lambda *_: is_main)
    runner.train()
    assert part.exists() != is_main


def test_custom_hooks_of_a_base_stay_next_to_ours(tmp_path):
    """Ours are default hooks: a stock config keeps what it has in `custom_hooks`."""
    path = tmp_path / 'config.py'
    path.write_text(
        "_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\n"
        "runner_type = 'mmadaptor.Runner'\n"
        "custom_imports = dict(imports=['mmadaptor.engine'])\n"
        "default_hooks = dict(curves=dict(type='mmadaptor.CurvesHook'))\n"
    )
    stock = Config.fromfile(path)
    assert [h.type for h in stock.custom_hooks] == ['EMAHook', 'PipelineSwitchHook']
    cfg = training(tmp_path / 'run', custom_hooks=[dict(type='EMAHook')])
    cfg.default_hooks.curves = stock.default_hooks.curves
    kinds = [type(hook).__name__ for hook in Runner.from_cfg(cfg).hooks]
    ours = ['StrictLoadHook', 'ExactResumeHook', 'NonFiniteHook', 'CurvesHook']
    assert {'EMAHook', 'MissingValidationHook', *ours} <= set(kinds)
