# SPDX-License-Identifier: Apache-2.0
"""One training at a time uses a work folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmadaptor.errors import InputError


@contextmanager
def locked(work_dir: str) -> Iterator[None]:
    """Lock a work folder.

    The system releases the lock when the process ends, however it ends; data
    workers that outlive it do not hold it.

    Raises:
        InputError: Another process holds the lock.
    """
    if not is_main_process():
        yield
        return
    path = os.path.join(work_dir, '.training.lock')
    try:
        file = open(path, 'a+')  # noqa: SIM115
    except OSError as error:
        raise InputError(f'{work_dir} cannot be written: {error.strerror}') from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(
                f'{work_dir} is used by another training ({file.read()}). Give '
                'this one another --work-dir.'
            ) from error
        except OSError as error:  # a file system without locks
            print_log(
                f'{work_dir} cannot be locked ({error.strerror}): take '
                'care that no other training uses it.',
                'current',
            )
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        yield
