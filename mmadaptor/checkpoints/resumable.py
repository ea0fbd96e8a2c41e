# SPDX-License-Identifier: Apache-2.0
"""The newest checkpoint that a training can resume from."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress

from mmadaptor.errors import DamagedFileError, InputError
from mmadaptor.log import warn

from .loading import peek

# What a runner needs of a checkpoint to resume a training.
RESUMED = ('meta', 'message_hub')


def open_resumable(path: str) -> dict:
    """Open a checkpoint to resume a training from.

    Args:
        path: The file.

    Returns:
        Its content; the tensors stay on the disk.

    Raises:
        InputError: The file is missing.
        DamagedFileError: It is damaged, or holds only weights.
    """
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such checkpoint file.')
    content = peek(path)
    lacking = [key for key in RESUMED if key not in content]
    if lacking:
        problem = f'it has no {" and no ".join(lacking)}'
    else:
        problem = _problem_of(content)
    if problem:
        raise DamagedFileError(f'{path} cannot be resumed from: {problem}.')
    return content


def _problem_of(content: Mapping) -> str:
    """Return what of a checkpoint has another type than mmengine's."""
    for key in RESUMED:
        if not isinstance(content[key], Mapping):
            return f'its {key} is not a dict'
    for key, end in dict(epoch=2**31, iter=2**53, seed=2**32).items():
        number = content['meta'].get(key)
        if key == 'seed' and number is None:
            continue
        if type(number) is not int or not 0 <= number < end:
            return f'meta[{key!r}] is no number from 0 to {end - 1}'
    return ''


def find_resumable(work_dir: str) -> str | None:
    """Find the newest checkpoint of a work folder that opens.

    The log names damaged ones, which are skipped.

    Args:
        work_dir: The folder.

    Returns:
        Its path. None if the folder has no checkpoint.

    Raises:
        InputError: There are checkpoints, and all of them are damaged.
    """
    damaged = []
    for path in _newest_first(work_dir):
        try:
            open_resumable(path)
            return path
        except DamagedFileError as error:
            damaged.append(str(error))
            warn(f'{error} Skipped.')
    if damaged:
        raise InputError(
            'All checkpoints to resume from are damaged:\n  ' + '\n  '.join(damaged)
        )
    return None


def _newest_first(work_dir: str) -> list[str]:
    """Return the checkpoints of epochs or iterations up to the recorded last one.

    Files of an older run in the same folder may have higher numbers.
    """
    folder, stem, last = work_dir, r'(?:epoch|iter)_', float('inf')
    with suppress(OSError, UnicodeDecodeError):
        with open(os.path.join(work_dir, 'last_checkpoint')) as file:
            recorded = file.read().strip()
        name = os.path.basename(recorded)
        if found := re.fullmatch(r'(.*?)(\d+)\.pth', name):
            stem, last = re.escape(found[1]), int(found[2])
            # A folder that was moved or copied still records its former path.
            here = os.path.isfile(os.path.join(work_dir, name))
            if not here and os.path.isfile(recorded):
                folder = os.path.dirname(recorded)
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    numbered = {
        int(found[1]): name
        for name in names
        if (found := re.fullmatch(rf'{stem}(\d+)\.pth', name))
    }
    return [
        os.path.join(folder, numbered[number])
        for number in sorted(numbered, reverse=True)
        if number <= last
    ]
