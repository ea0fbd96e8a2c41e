# SPDX-License-Identifier: Apache-2.0
"""Wherever the disk is full, a training ends in a sentence and loses nothing."""

import shutil

import pytest
from helpers.jobs import TOY, tool, write_config

from mmadaptor.checkpoints.loading import read_checkpoint


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config, and what its training leaves after one epoch."""
    folder = tmp_path_factory.mktemp('trained')
    text = TOY.replace('num_workers=2', 'num_workers=0')
    config = write_config(folder, text, work_dir=str(folder / 'run'))
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    assert tool('train', config, *options).returncode == 0
    return config, folder / 'run'


# KiB that a file may have: the copy of the config, the log, the dumped config,
# the records, a checkpoint, the curves.
@pytest.mark.parametrize('limit', [0, 1, 4, 20, 100])
def test_at_each_write(limit, trained, tmp_path):
    """A limit on the size of files stands for a full disk."""
    config, folder = trained
    run = shutil.copytree(folder, tmp_path / 'run')
    saved = read_checkpoint(str(run / 'epoch_1.pth'))
    arguments = [config, '--work-dir', run, '--resume']
    ended = tool('train', *arguments, prelude=f'ulimit -f {limit}')
    assert ended.returncode == 1
    sentence = ended.stderr[ended.stderr.rindex('error: ') :]
    assert 'File too large' in sentence or 'No usable temporary directory' in sentence
    assert 'Traceback' not in sentence
    assert read_checkpoint(str(run / 'epoch_1.pth'))['meta'] == saved['meta']
    assert {p.name for p in run.glob('*.pth*')} == {'epoch_1.pth'}
    if limit == 100:
        assert tool('train', *arguments).returncode == 0
        assert read_checkpoint(str(run / 'epoch_3.pth'))['meta']['epoch'] == 3


@pytest.mark.parametrize('name', ['last_checkpoint', 'curves.png'])
def test_where_one_file_cannot_be_written(name, tmp_path):
    """`/dev/full` has no room."""
    run = tmp_path / 'run'
    run.mkdir()
    (run / name).symlink_to('/dev/full')
    text = TOY.replace('num_workers=2', 'num_workers=0')
    ended = tool('train', write_config(tmp_path, text, work_dir=str(run)))
    assert ended.returncode == 1
    sentence = ended.stderr[ended.stderr.rindex('error: ') :]
    assert 'No space left on device' in sentence
    assert read_checkpoint(str(run / 'epoch_1.pth'))['meta']['epoch'] == 1


@pytest.mark.parametrize('place', ['/sys/run', '/dev/null/run'])
def test_where_no_folder_can_be_made(place, tmp_path):
    config = write_config(tmp_path, TOY, work_dir=place)
    ended = tool('train', config)
    assert ended.returncode == 1
    assert place.rpartition('/')[0] in ended.stderr[ended.stderr.rindex('error: ') :]
    assert 'Traceback' not in ended.stderr
