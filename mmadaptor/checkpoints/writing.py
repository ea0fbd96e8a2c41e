# SPDX-License-Identifier: Apache-2.0
"""Files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError

from mmadaptor.errors import CheckpointWriteError

from .integrity import seal
from .safetensors_file import SUFFIX, write_safetensors

RESUME = 'Earlier checkpoints are unchanged: make room, then resume.'


@contextmanager
def replace_when_written(path: str | Path, advice: str = RESUME) -> Iterator[str]:
    """Give a path to write to, and move the file to its final path at the end.

    Args:
        path: The final path.
        advice: Last sentence of the error if the file cannot be written.

    Yields:
        The path to write to, in the same folder.

    Raises:
        CheckpointWriteError: The file could not be written. What was at the
            final path is unchanged.
    """
    path = Path(path)
    part = path.with_name(f'{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield str(part)
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise CheckpointWriteError(
            f'{path} could not be written: {error.strerror or error}. {advice}'
        ) from error


def remove_parts(folder: str | Path) -> None:
    """Remove what a killed process had written of a checkpoint."""
    for part in Path(folder).glob('*.pth.part'):
        with suppress(OSError):
            part.unlink()


def _sync(path: Path) -> None:
    """Have the system write a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(content: dict, path: str | Path) -> None:
    """Save a checkpoint as a whole or not at all.

    Args:
        content: What it holds.
        path: The file. One that ends with `.safetensors` has that format.

    Raises:
        InputError: The content is more than safetensors can hold.
        CheckpointWriteError: The disk is full or cannot be written.
    """
    with replace_when_written(path) as part:
        try:
            if str(path).endswith(SUFFIX):
                write_safetensors(content, part)
            else:
                with open(part, 'wb') as file:
                    torch.save(content, file)
            seal(part)
        # The writers of torch and safetensors, on a full disk. That of torch ends with
        # an error of its own while it handles that of the file.
        except (RuntimeError, SafetensorError) as error:
            full = error.__context__
            if not isinstance(full, OSError):
                full = OSError(str(error))
            raise full from error
