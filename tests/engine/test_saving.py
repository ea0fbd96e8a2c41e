# SPDX-License-Identifier: Apache-2.0
"""Checkpoints can be written, and are before the end: both are checked at the start."""

from types import SimpleNamespace

import pytest
from helpers.jobs import TOY, log_of_training, write_config
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmadaptor.checkpoints.integrity import MARK
from mmadaptor.engine import Runner
from mmadaptor.engine.saving import _saves_late, is_local, saving_folder
from mmadaptor.errors import InputError


def toy(folder, **checkpoint):
    cfg = Config.fromfile(write_config(folder, TOY, work_dir=str(folder / 'run')))
    cfg.merge_from_dict(
        {
            'default_hooks.checkpoint': dict(type='CheckpointHook', **checkpoint),
            'train_dataloader.num_workers': 0,
            'train_cfg.max_epochs': 2,
            'experiment_name': str(folder),
            'custom_hooks': [],
        }
    )
    return cfg


def by_iterations(cfg, count=12):
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=count, val_interval=99)
    cfg.train_dataloader.sampler.type = 'InfiniteSampler'
    return cfg


@pytest.mark.parametrize(
    'checkpoint, folder',
    [
        (dict(), 'run'),
        (dict(out_dir='{}/fast'), 'fast/run'),
        (dict(filename_tmpl='ckpt/epoch_{{}}.pth'), 'run/ckpt'),
        (dict(out_dir='{}/fast', filename_tmpl='a/b_{{}}.pth'), 'fast/run/a'),
    ],
)
def test_the_folder_is_where_the_hook_writes_and_resume_looks(
    checkpoint, folder, tmp_path
):
    checkpoint = {key: text.format(tmp_path) for key, text in checkpoint.items()}
    cfg = toy(tmp_path, interval=1, **checkpoint)
    Runner.from_cfg(cfg).train()
    assert saving_folder(cfg, cfg.work_dir) == str(tmp_path / folder)
    paths = list(tmp_path.rglob('*.pth'))
    assert {path.parent for path in paths} == {tmp_path / folder} and len(paths) == 2
    assert all(MARK in path.read_bytes()[-200:] for path in paths)
    (tmp_path / folder / 'x.pth.part').touch()  # of a process that was killed
    cfg.merge_from_dict({'resume': True, 'train_cfg.max_epochs': 3})
    assert 'resumed epoch: 2' in log_of_training(cfg)
    assert not list(tmp_path.rglob('*.part'))


def test_the_folder_of_an_address_and_of_a_number():
    def folder(**settings):
        cfg = Config(dict(default_hooks=dict(checkpoint=settings)))
        return saving_folder(cfg, '/a/run')

    assert folder(out_dir='s3://bucket') == 's3://bucket/run'
    assert folder(filename_tmpl='{}/model.pth') == '/a/run'
    assert folder(out_dir='/a/run') == '/a/run'
    out = Config(dict(default_hooks=dict(checkpoint=dict(out_dir='/b'))))
    assert saving_folder(out, '/a/run/') == '/b/run'
    assert saving_folder(Config(dict(default_hooks=None)), '/a/run') == '/a/run'
    hook = CheckpointHook(out_dir='/b')
    hooks = SimpleNamespace(get=lambda _: dict(checkpoint=hook))
    assert saving_folder(hooks, '/a/run') == '/b/run'


@pytest.mark.parametrize('key', ['backend_args', 'file_client_args'])
def test_the_file_system_by_name_is_written_safely_too(key, tmp_path):
    name = 'local' if key == 'backend_args' else 'disk'
    Runner.from_cfg(toy(tmp_path, interval=1, **{key: dict(backend=name)})).train()
    path = tmp_path / 'run' / 'epoch_2.pth'
    assert MARK in path.read_bytes()[-200:]


def test_other_storage_is_left_to_mmengine():
    assert is_local('/a', None) and is_local('/a', {})
    assert not is_local('s3://a', None)
    assert not is_local('/a', dict(backend='petrel'))


@pytest.mark.parametrize('place', ['/proc/nowhere', '{}/file'])
def test_a_folder_that_cannot_be_written_is_named_first(place, tmp_path):
    (tmp_path / 'file').touch()
    runner = Runner.from_cfg(toy(tmp_path, out_dir=place.format(tmp_path)))
    with pytest.raises(InputError, match='run, in which CheckpointHook saves.*out_dir'):
        runner.train()
    assert not list(tmp_path.rglob('*.pth'))


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    runner = Runner.from_cfg(toy(tmp_path, out_dir=str(tmp_path / 'out')))
    runner.build_train_loop(runner._train_loop)
    assert list((tmp_path / 'out').rglob('*')) == [tmp_path / 'out' / 'run']


def test_a_training_by_iterations_with_a_hook_by_epochs_is_told(tmp_path):
    log = log_of_training(by_iterations(toy(tmp_path, interval=1)))
    assert (
        'CheckpointHook saves no checkpoint to resume from before the end: it has '
        'interval=1, by_epoch=True, and the training max_iters=12. An '
        'IterBasedTrainLoop has one epoch: set by_epoch=False.'
    ) in log
    assert log.index('saves no checkpoint') < log.index('Saving checkpoint')


def test_a_hook_in_time_is_not_told_of(tmp_path):
    cfg = by_iterations(toy(tmp_path, interval=5, by_epoch=False))
    assert 'saves no checkpoint' not in log_of_training(cfg)


@pytest.mark.parametrize(
    'kind, end, hook, late',
    [
        (IterBasedTrainLoop, 100, dict(interval=99, by_epoch=False), False),
        (IterBasedTrainLoop, 100, dict(interval=100, by_epoch=False), True),
        (IterBasedTrainLoop, 100, dict(interval=-1, by_epoch=False), True),
        (IterBasedTrainLoop, 1, dict(interval=1, by_epoch=True), False),
        (IterBasedTrainLoop, 100, dict(interval=1, by_epoch=True), True),
        (
            IterBasedTrainLoop,
            100,
            dict(interval=200, save_begin=50, by_epoch=False),
            False,
        ),
        (EpochBasedTrainLoop, 12, dict(interval=1), False),
        (EpochBasedTrainLoop, 12, dict(interval=20), True),
        (EpochBasedTrainLoop, 12, dict(interval=20, by_epoch=False), False),
        (EpochBasedTrainLoop, 1, dict(interval=1), False),
        (SimpleNamespace, 12, dict(interval=20), False),
    ],
)
def test_when_a_hook_is_late(kind, end, hook, late):
    loop = kind.__new__(kind)
    by_epoch = kind is EpochBasedTrainLoop
    vars(loop).update(_max_epochs=end if by_epoch else 1)
    vars(loop).update(_max_iters=100 if by_epoch else end)
    assert bool(_saves_late(CheckpointHook(**hook), loop)) == late
