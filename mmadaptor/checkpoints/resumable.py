# SPDX-License-Identifier: Apache-2.0
"""The newest checkpoint that a training can resume from."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mmadaptor.errors import DamagedFileError, InputError
from mmadaptor.log import warn

from .loading import peek

# What a runner needs of a checkpoint to resume a training.
RESUMED = ('meta', 'message_hub')
RECORD = 'last_checkpoint'  # the file in which mmengine names it


def open_resumable(path: str) -> dict:
    """Open a checkpoint to resume a training from.

    Args:
        path: The file; `~` is expanded.

    Returns:
        Its content; the tensors stay on the disk.

    Raises:
        InputError: The file is missing.
        DamagedFileError: It is damaged, or holds only weights.
    """
    content = peek(path)
    if problem := _problem_of(content):
        raise DamagedFileError(f'{path} cannot be resumed from: {problem}.')
    return content


def _problem_of(content: Mapping) -> str:
    """Return what a checkpoint lacks, or has of another type than mmengine's."""
    if lacking := [key for key in RESUMED if key not in content]:
        return f'it has no {" and no ".join(lacking)}'
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


def find_resumable(work_dir: str, saved_to: str | None = None) -> str | None:
    """Find the newest checkpoint of a training that opens.

    The log names damaged ones, which are skipped.

    Args:
        work_dir: The folder of the training.
        saved_to: Where its checkpoints are written. Default: `work_dir`.

    Returns:
        Its path, or its address as recorded. None if there is no checkpoint yet.

    Raises:
        InputError: There are checkpoints, and all of them are damaged, or one is
            recorded, and none is found.
    """
    recorded = _recorded(work_dir)
    if '://' in (recorded or ''):
        return recorded
    damaged = []
    for path in _newest_first(work_dir, saved_to or work_dir, recorded or ''):
        if os.path.isdir(path):  # shards
            return path
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
    if recorded is not None:
        record = os.path.join(work_dir, RECORD)
        raise InputError(
            f'{record} names {recorded or "no file"}: expected that checkpoint or an '
            f'earlier one of the training, found none. Put one back or set '
            f'load_from=CHECKPOINT; to start from the beginning, remove {record}.'
        )
    return None


def _recorded(work_dir: str) -> str | None:
    """Return what the folder records as its last checkpoint; None for no record."""
    try:
        with open(os.path.join(work_dir, RECORD), errors='replace') as file:
            return file.read().strip()
    except OSError:
        return None


def _newest_first(work_dir: str, saved_to: str, recorded: str) -> list[str]:
    """Return the checkpoints of epochs or iterations up to the recorded last one.

    Files of an older run in the same folder may have higher numbers.
    """
    before, name = os.path.split(recorded)
    pattern, last = r'(?:epoch|iter)_(\d+)\.pth', float('inf')
    if found := re.fullmatch(r'(.*?)(\d+)(\D*)', name):
        pattern = rf'{re.escape(found[1])}(\d+){re.escape(found[3])}'
        last = int(found[2])
    # A folder that was moved or copied still records its former path. It has its
    # checkpoints inside, unless they are written elsewhere.
    inside = Path(saved_to).is_relative_to(work_dir)
    places = [saved_to, work_dir, before] if inside else [before, saved_to, work_dir]
    for place in filter(None, places):
        path = os.path.join(place, name)
        if os.path.isfile(path) or (found and os.path.isdir(path)):
            return _numbered(place, pattern, last) if found else [path]
    if found:
        warn(f'{recorded} is the last checkpoint as recorded, and it is missing.')
    return next(filter(None, (_numbered(p, pattern, last) for p in places)), [])


def _numbered(folder: str, pattern: str, last: float) -> list[str]:
    """Return the files of a folder whose number is not above the last."""
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    numbered = {
        int(found[1]): name for name in names if (found := re.fullmatch(pattern, name))
    }
    return [
        os.path.join(folder, numbered[number])
        for number in sorted(numbered, reverse=True)
        if number <= last
    ]
