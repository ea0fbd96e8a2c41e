# SPDX-License-Identifier: Apache-2.0
"""One training at a time uses a work folder."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from mmadaptor.engine.lock import locked
from mmadaptor.errors import InputError

HOLD = """
import sys, time
from mmadaptor.engine.lock import locked
with locked(sys.argv[1]):
    print('locked', flush=True)
    time.sleep(99)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'locked\n'
    yield process
    process.kill()
    process.wait()


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
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / '.training.lock').read_text()


def wait(event):
    event.wait(60)


def test_data_workers_that_outlive_it_do_not_hold_it(tmp_path):
    context = multiprocessing.get_context('fork')
    event = context.Event()
    with locked(str(tmp_path)):
        worker = context.Process(target=wait, args=(event,))
        worker.start()
    code = HOLD.replace('time.sleep(99)', '')
    result = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True
    )
    event.set()
    worker.join()
    assert result.stdout == 'locked\n', result.stderr


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with locked(str(tmp_path)):
            pass


def test_a_folder_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(InputError, match='none cannot be written: No such file'),
        locked(str(tmp_path / 'none')),
    ):
        pass
