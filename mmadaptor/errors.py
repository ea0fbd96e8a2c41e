# SPDX-License-Identifier: Apache-2.0
"""The one kind of error that is the user's to mend."""

EXTRAS = {'mmdet': 'det', 'mmseg': 'seg', 'mmpretrain': 'cls'}


class InputError(Exception):
    """What was given cannot be used.

    The message says what it is, what was expected and how to go on; the tools
    print it without a traceback.
    """


class UnsafeCheckpointError(InputError):
    """A checkpoint holds pickled objects besides weights."""


class DamagedFileError(InputError):
    """A file is truncated or not what its name says."""


class CheckpointMismatchError(InputError):
    """A checkpoint belongs to another model."""


class CheckpointWriteError(InputError):
    """A checkpoint could not be written; those before it are intact."""


def how_to_install(toolbox: str | None) -> str:
    """How to get a toolbox that is missing.

    Args:
        toolbox: Its import name.

    Returns:
        What to say; empty if it is none of ours. The distribution of that very
        name is the unmaintained one.
    """
    if toolbox not in EXTRAS:
        return ''
    return (
        f"{toolbox}, which is not installed: in mmadaptor's folder, "
        f'pip install -e ".[{EXTRAS[toolbox]}]" --no-build-isolation'
    )
