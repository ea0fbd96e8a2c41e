# SPDX-License-Identifier: Apache-2.0
"""Whatever stops a save, the checkpoints before it stay."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmadaptor.errors import CheckpointWriteError
from mmadaptor.registry import HOOKS

BACKEND = 'mmadaptor.atomic'


@register_backend(BACKEND)
class AtomicLocalBackend(LocalBackend):
    """Local files that are there as a whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file beside its place, then moves it there.

        Args:
            obj: The bytes to write.
            filepath: Where they shall be.

        Raises:
            CheckpointWriteError: The disk is full, or cannot be written.
        """
        path = Path(filepath)
        part = path.with_name(f'{path.name}.part')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise CheckpointWriteError(
                f'{path} ({len(obj) / 2**20:.1f} MiB) could not be written: '
                f'{error.strerror}.'
            ) from error


def save_whole(content: dict, path: str) -> None:
    """Saves a checkpoint that is there as a whole or not at all.

    Args:
        content: What it holds.
        path: The file.

    Raises:
        CheckpointWriteError: The disk is full, or cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    AtomicLocalBackend().put(buffer.getvalue(), path)


class _LaterRemovals:
    """A file backend that keeps its removals in mind.

    Args:
        backend: Does everything else, and the removals in the end.
    """

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._removals = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Keeps in mind to remove a file.

        Args:
            path: The file.
        """
        self._removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        """Keeps in mind to remove a folder.

        Args:
            path: The folder.
        """
        self._removals.append((self._backend.rmtree, path))

    def carry_out(self, kept: tuple[str | None, ...]) -> None:
        """Removes what is to be removed.

        Args:
            kept: Paths that stay all the same.
        """
        for remove, path in self._removals:
            if path not in kept:
                remove(path)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, which loses nothing when a save fails.

    mmengine removes the oldest (and the best) checkpoint before it writes the
    new one, and a disk that runs full leaves half a file. Here a file is moved
    into its place when it is whole, and the removals follow. It takes the room
    of one more checkpoint for that moment. The arguments are CheckpointHook's.
    """

    def before_train(self, runner: Runner) -> None:
        """Chooses how files are written.

        Args:
            runner: The runner of the training.
        """
        where = str(self.out_dir or runner.work_dir)
        unset = self.backend_args is None and self.file_client_args is None
        if unset and '://' not in where:
            self.backend_args = dict(backend=BACKEND)
        super().before_train(runner)

    @contextlib.contextmanager
    def _removing_later(self) -> Iterator[None]:
        backend = self.file_backend
        self.file_backend = _LaterRemovals(backend)
        try:
            yield
            self.file_backend.carry_out(
                (self.last_ckpt, getattr(self, 'best_ckpt_path', None))
            )
        except CheckpointWriteError as error:
            raise CheckpointWriteError(
                f'{error} The checkpoints before it are intact: make room, '
                'then go on with --resume.'
            ) from error
        finally:
            self.file_backend = backend

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removing_later():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_later():
            super()._save_best_checkpoint(runner, metrics)
