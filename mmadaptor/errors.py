# SPDX-License-Identifier: Apache-2.0
"""Errors that the user can fix; the tools print them without a traceback."""

import errno
import importlib.util
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from .environment import problem_of_mmcv_ops

# The extra of mmadaptor that installs each toolbox.
EXTRAS = dict(mmdet='det', mmseg='seg', mmpretrain='cls')


class InputError(Exception):
    """An input cannot be used.

    The message names the input, what was expected, what was found and how to
    continue.
    """


class UnsafeCheckpointError(InputError):
    """A checkpoint holds pickled objects besides weights."""


class DamagedFileError(InputError):
    """A file is truncated, or its content does not match its type."""


class CheckpointMismatchError(InputError):
    """A checkpoint belongs to another model."""


class CheckpointWriteError(InputError):
    """A checkpoint could not be written; earlier checkpoints are unchanged."""


# The disk is the problem, not the program.
DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO)


def disk_error_of(error: OSError) -> InputError | None:
    """Return the error of a disk that cannot be written; None for other ones."""
    if error.errno not in DISK:
        return None
    file = error.filename or 'The disk'
    return CheckpointWriteError(
        f'{file}: {error.strerror}. Checkpoints that were saved are unchanged: resume '
        'when the disk has room and can be written.'
    )


def message_of(error: Exception) -> str:
    """Return the message of an error, without the traceback of a data worker."""
    return str(error).rpartition(f'{type(error).__name__}: ')[-1]


def described(error: Exception) -> str:
    """Return the type and the message of an error that another library raised.

    Without a message, as for a bare `assert`, the line that raised it is in its place.
    """
    text = str(error).strip()
    if not text:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = f'{frame.line} ({frame.filename}:{frame.lineno})'
    return f'{type(error).__name__}: {text}'


def reason_of(error: Exception) -> str:
    """Return the message alone; :func:`described` if there is none."""
    text = str(error.args[0] if len(error.args) == 1 else error)
    return text.strip() or described(error)


@contextmanager
def as_input_error(key: str) -> Iterator[None]:
    """Turn the exceptions of mmengine's builders into errors of the config.

    Raises:
        InputError: What is built has an argument that is wrong or unknown, or needs a
            package that is not installed.
    """
    try:
        yield
    except (TypeError, KeyError, ValueError, AssertionError, ImportError) as error:
        raise InputError(f'`{key}` of the config: {reason_of(error)}') from error


def how_to_install(toolbox: str | None) -> str:
    """Return how to install a toolbox that is missing or lacks compiled ops.

    Args:
        toolbox: Its import name.

    Returns:
        A phrase that starts with the name. Empty if the toolbox can be imported or
        is not one that mmadaptor uses.
    """
    if toolbox not in EXTRAS:
        return ''
    if not importlib.util.find_spec(toolbox):
        return (
            f'{toolbox}, which is not installed. Run in the mmadaptor folder: '
            f'pip install -e ".[{EXTRAS[toolbox]}]" --no-build-isolation'
        )
    # The other toolboxes can be imported without them.
    problem = problem_of_mmcv_ops() if toolbox == 'mmdet' else None
    return f"{toolbox}, which needs mmcv's ops. {problem}" if problem else ''
