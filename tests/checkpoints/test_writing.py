# SPDX-License-Identifier: Apache-2.0
"""Whatever stops a write, what was there before stays."""

import errno
import os
import pathlib

import pytest
import torch

from mmadaptor.checkpoints.writing import remove_parts, replace_when_written, save
from mmadaptor.errors import CheckpointWriteError


def write(path, content):
    with replace_when_written(path) as part:
        pathlib.Path(part).write_bytes(content)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    write(path, b'old')

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(
        CheckpointWriteError,
        match=r'a\.pth could not be written: No space left on device\. Earlier '
        'checkpoints are unchanged: make room, then resume',
    ):
        write(path, b'new')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='Linux only')
def test_the_full_device_itself(tmp_path):
    (tmp_path / 'b.pth.part').symlink_to('/dev/full')
    says = r'b\.pth could not be written: No space left on device\. Earlier'
    with pytest.raises(CheckpointWriteError, match=says):
        save(dict(weight=torch.zeros(9999)), tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_a_file_that_does_not_fit_is_named(suffix, tmp_path):
    """The writers of torch and safetensors have errors of their own."""
    resource = pytest.importorskip('resource')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / f'b.{suffix}'
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            CheckpointWriteError, match=r'could not be .*File too large'
        ):
            save(dict(state_dict=dict(weight=torch.zeros(9999))), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_on_the_disk_before_it_is_moved(tmp_path, monkeypatch):
    """And its folder after: a power cut leaves the old file or the new one."""
    done = []
    monkeypatch.setattr('os.fsync', lambda _: done.append('fsync'))
    replace = pathlib.os.replace
    monkeypatch.setattr('os.replace', lambda *a: (done.append('replace'), replace(*a)))
    write(tmp_path / 'a.pth', b'new')
    assert done == ['fsync', 'replace', 'fsync']


def test_a_write_makes_its_folder(tmp_path):
    save(dict(weight=torch.ones(2)), tmp_path / 'a' / 'b' / 'c.pth')
    got = torch.load(tmp_path / 'a' / 'b' / 'c.pth')
    torch.testing.assert_close(got['weight'], torch.ones(2))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(
        CheckpointWriteError, match=r'a\.pth could not be written: File'
    ):
        write(tmp_path / 'file' / 'a.pth', b'')


def test_only_the_parts_of_checkpoints_are_removed(tmp_path):
    for name in ('epoch_2.pth', 'epoch_3.pth.part', 'download.mp4.part'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.pth.part').mkdir()
    remove_parts(tmp_path)
    left = {'epoch_2.pth', 'download.mp4.part', 'folder.pth.part'}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.skipif(not pathlib.Path('/proc/self/fd').exists(), reason='Linux only')
def test_a_write_leaves_no_file_open(tmp_path):
    before = os.listdir('/proc/self/fd')
    write(tmp_path / 'a.pth', b'new')
    assert os.listdir('/proc/self/fd') == before


@pytest.mark.parametrize('error', [ZeroDivisionError, KeyboardInterrupt])
def test_other_errors_are_not_hidden(tmp_path, error):
    with pytest.raises(error), replace_when_written(tmp_path / 'a.pth') as part:
        pathlib.Path(part).write_bytes(b'half')
        raise error
    assert not list(tmp_path.iterdir())
