# SPDX-License-Identifier: Apache-2.0
"""One training at a time uses a work folder."""

import errno
import multiprocessing
import os
import socket
import time

import pytest

from mmadaptor.engine.lock import locked
from mmadaptor.errors import InputError

FORK = multiprocessing.get_context('fork')


def hold(folder, held):
    with locked(folder):
        held.set()
        time.sleep(99)


@pytest.fixture
def holder(tmp_path):
    held = FORK.Event()
    process = FORK.Process(target=hold, args=(str(tmp_path), held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_training_is_refused_by_the_name_of_the_first(holder, tmp_path):
    with (
        pytest.raises(
            InputError,
            match=rf'used by another training \(process {holder.pid} on .*--work-dir',
        ),
        locked(str(tmp_path)),
    ):
        pass
    # Its name is still there for the next one.
    assert str(holder.pid) in (tmp_path / '.training.lock').read_text()


def test_a_killed_training_releases_it(holder, tmp_path):
    holder.kill()
    holder.join()
    with locked(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / '.training.lock').read_text()


def take(folder):
    with locked(folder):
        pass


def test_data_workers_that_outlive_it_do_not_hold_it(tmp_path):
    done = FORK.Event()
    with locked(str(tmp_path)):
        worker = FORK.Process(target=done.wait, args=(60,))
        worker.start()
    other = FORK.Process(target=take, args=(str(tmp_path),))
    other.start()
    other.join()
    done.set()
    worker.join()
    assert other.exitcode == 0


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with locked(str(tmp_path)):
            name = f'process {os.getpid()} on {socket.gethostname()}'
            assert (tmp_path / '.training.lock').read_text() == name


def test_a_folder_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(InputError, match='none cannot be written: No such file'),
        locked(str(tmp_path / 'none')),
    ):
        pass


def test_other_processes_of_a_job_do_not_lock(tmp_path, monkeypatch):
    monkeypatch.setattr('mmadaptor.engine.lock.is_main_process', lambda: False)
    with locked(str(tmp_path)):
        assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    said = []
    monkeypatch.setattr('fcntl.lockf', no_locks)
    monkeypatch.setattr('mmadaptor.engine.lock.print_log', lambda *a: said.append(a[0]))
    with locked(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / '.training.lock').read_text()
    assert said == [
        f'{tmp_path} cannot be locked (No locks available): take care that no other '
        'training uses it.'
    ]
