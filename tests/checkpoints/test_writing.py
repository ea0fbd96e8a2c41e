# SPDX-License-Identifier: Apache-2.0
"""Whatever stops a write, what was there before stays."""

import errno
import pathlib

import pytest
import torch

from mmadaptor.checkpoints.writing import replace_when_written, save
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
    with pytest.raises(CheckpointWriteError, match='b.pth could not be written'):
        save(dict(weight=torch.zeros(9999)), tmp_path / 'b.pth')
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


@pytest.mark.parametrize('error', [ZeroDivisionError, KeyboardInterrupt])
def test_other_errors_are_not_hidden(tmp_path, error):
    with pytest.raises(error), replace_when_written(tmp_path / 'a.pth') as part:
        pathlib.Path(part).write_bytes(b'half')
        raise error
    assert not list(tmp_path.iterdir())
