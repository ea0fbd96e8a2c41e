# SPDX-License-Identifier: Apache-2.0
"""What the user can do about a full disk and a process that ended."""

import errno

import pytest

from mmadaptor.engine.failures import explained
from mmadaptor.errors import CheckpointWriteError, InputError


@pytest.mark.parametrize(
    'error, kind, says',
    [
        (OSError(errno.ENOSPC, 'No space left'), CheckpointWriteError, 'has room'),
        (OSError(errno.EXDEV, 'Another device'), OSError, 'Another device'),
        (
            RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '),
            InputError,
            r'is killed by signal: Killed\. If memory ran out.*resume',
        ),
        (
            RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'),
            InputError,
            r'worker \(pid\(s\) 7, 8\) exited unexpectedly\. If memory ran out',
        ),
        (
            RuntimeError('[gloo] Connection closed by peer [127.0.0.1]:7'),
            InputError,
            'Connection closed by peer. Another process of the job ended',
        ),
        (RuntimeError('Connection reset by peer'), InputError, 'Another process'),
        (RuntimeError('a bug'), RuntimeError, 'a bug'),
    ],
)
def test_errors_that_are_no_bugs_say_what_to_do(error, kind, says):
    with pytest.raises(kind, match=says) as raised, explained():
        raise error
    assert type(raised.value) is kind
