# SPDX-License-Identifier: Apache-2.0
"""Errors of the disk and of other processes, as errors of the user."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmadaptor.errors import InputError, disk_error_of

# What torch says when another process ended, and what the user can do.
ENDED = {
    re.compile(r'DataLoader worker \(pid.*?(is killed|exited)[^.\n]*'): (
        'If memory ran out, lower num_workers or batch_size of `train_dataloader`, '
        'then resume.'
    ),
    re.compile(r'Connection (closed|reset) by peer'): (
        'Another process of the job ended; its own output says why. Then resume.'
    ),
}


@contextmanager
def explained() -> Iterator[None]:
    """Say what to do about a full disk, or a process that ended.

    Raises:
        InputError: The disk is full, or a process of the job was killed.
    """
    try:
        yield
    except OSError as error:
        if found := disk_error_of(error):
            raise found from error
        raise
    except RuntimeError as error:
        for pattern, advice in ENDED.items():
            if found := pattern.search(str(error)):
                raise InputError(f'{found[0]}. {advice}') from error
        raise
