# SPDX-License-Identifier: Apache-2.0
"""A write that fails loses nothing; averaged weights are saved whole."""

import errno
import pathlib

import pytest
import torch
from helpers import toy  # noqa: F401
from helpers.jobs import TOY, write_config
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.runner import Runner

from mmadaptor.engine.hooks.safe_checkpoint_hook import BACKEND
from mmadaptor.errors import CheckpointWriteError


@pytest.fixture
def backend():
    return get_file_backend('x.pth', backend_args=dict(backend=BACKEND))


def test_a_write_that_fails_leaves_the_old_file(backend, tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    backend.put(b'old', path)

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(CheckpointWriteError, match=r'a\.pth .*No space left on device'):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='Linux only')
def test_the_full_device_itself(backend, tmp_path):
    (tmp_path / 'b.pth.part').symlink_to('/dev/full')
    with pytest.raises(CheckpointWriteError, match='No space left'):
        backend.put(b'new', tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == []


def test_a_training_says_how_to_go_on(tmp_path, monkeypatch):
    cfg = toy_training(tmp_path, 1)

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(
        CheckpointWriteError, match=r'epoch_1\.pth .*No space left.*--resume'
    ):
        Runner.from_cfg(cfg).train()


def test_a_write_makes_its_folder(backend, tmp_path):
    backend.put(b'new', tmp_path / 'a' / 'b' / 'c.pth')
    assert (tmp_path / 'a' / 'b' / 'c.pth').read_bytes() == b'new'


def toy_training(folder, epochs, hooks='', **others):
    """The config of a training of the toy."""
    cfg = Config.fromfile(write_config(folder, TOY + hooks, work_dir=str(folder)))
    cfg.train_cfg.max_epochs = epochs
    cfg.train_dataloader.num_workers = 0
    cfg.default_hooks.checkpoint.type = 'mmadaptor.SafeCheckpointHook'
    cfg.update(experiment_name=f'{folder.name}{epochs}', **others)
    return cfg


def averaged(folder, epochs, **others):
    """Trains the toy with averaged weights; returns its last checkpoint."""
    hooks = """
custom_hooks += [
    dict(type='mmadaptor.StrictLoadHook'),
    dict(type='mmpretrain.EMAHook', momentum=.2, priority='ABOVE_NORMAL')]
"""
    Runner.from_cfg(toy_training(folder, epochs, hooks, **others)).train()
    return torch.load(folder / f'epoch_{epochs}.pth', weights_only=False)


def test_averaged_weights_are_saved_and_resumed_exactly(tmp_path):
    """The averages are the checkpoint's `state_dict`, which others start from."""
    pytest.importorskip('mmpretrain.engine')
    (tmp_path / 'unbroken').mkdir()
    (tmp_path / 'resumed').mkdir()
    expected = averaged(tmp_path / 'unbroken', 3)
    trained = {
        k.removeprefix('module.'): v for k, v in expected['ema_state_dict'].items()
    }
    assert not torch.equal(
        expected['state_dict']['layer.weight'], trained['layer.weight']
    )
    averaged(tmp_path / 'resumed', 2)
    got = averaged(
        tmp_path / 'resumed',
        3,
        resume=True,
        load_from=str(tmp_path / 'resumed' / 'epoch_2.pth'),
    )
    for part in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(got[part], expected[part], rtol=0, atol=0)
