# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend only on the seed, the iteration and the process."""

import ctypes
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dataset import worker_init_fn as mmengine_worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mmadaptor.checkpoints.plain import make_plain, restore
from mmadaptor.registry import HOOKS

MODEL, DATA, VALIDATION = 0, 1, 2
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent() -> None:
    """Make this process end when its parent does, on Linux.

    A data worker whose parent was killed can wait forever for room in the queue
    of its batches, and keeps its memory.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def seed_everything(*numbers: int) -> None:
    """Seed Python, numpy and torch from several numbers, 0 or greater each."""
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    random.seed(int(seed))
    np.random.seed(int(seed >> np.uint64(32)))
    torch.manual_seed(int(seed >> np.uint64(1)))


class BatchSeeds:
    """Seeds each training batch that a `DataLoader` loads by its number.

    A worker is seeded as it starts, for its first batch, and again after it has
    collated a batch, for its next one. So the random numbers of a batch depend
    neither on the number of workers nor on the batches before it.

    Args:
        loader: The data loader; its `worker_init_fn`, `collate_fn` and
            `generator` are replaced.
        seed: The seed of the run.
        by_epoch: Whether batches are numbered anew in each epoch.
    """

    def __init__(self, loader: DataLoader, seed: int, by_epoch: bool) -> None:
        self.collate: Callable = loader.collate_fn
        self.sampler = loader.sampler
        self.workers = loader.num_workers
        self.length = len(loader)
        self.rank = get_rank()  # unknown to workers that are spawned
        self.seed, self.by_epoch = seed, by_epoch
        self.endless = not by_epoch and _can_skip(loader)
        self.epoch = self.first = self.loaded = 0
        self.worker: int | None = None
        loader.worker_init_fn = self.start_worker
        loader.collate_fn = self
        if loader.generator is None:
            # A new iterator would draw from torch's own generator, and a
            # resumed run has one more iterator than an unbroken one.
            loader.generator = torch.Generator()

    def start_worker(self, worker: int) -> None:
        """Seed a worker for its first batch."""
        end_with_parent()
        self.worker = worker
        if not self.by_epoch:
            self.epoch = getattr(self.sampler, 'epoch', 0)
        self._seed_next()

    def __call__(self, samples: list) -> Any:
        """Collate a batch, and seed the worker for its next one."""
        batch = self.collate(samples)
        if self.worker is not None:
            self.loaded += 1
            self._seed_next()
        return batch

    def _seed_next(self) -> None:
        epoch, batch = self.epoch, self.loaded
        if not self.endless:  # a persistent worker outlives its epoch
            each = len(range(self.worker, self.length, self.workers))
            if each:
                epoch, batch = epoch + batch // each, batch % each
        self.seed_batch(epoch, self.first + batch * self.workers + self.worker)

    def seed_batch(self, epoch: int, batch: int) -> None:
        """Seed the current process for a batch."""
        seed_everything(self.seed, epoch, batch, self.rank, DATA)

    def seed_iteration(self, iteration: int) -> None:
        """Seed the current process for the batch of an iteration."""
        self.seed_batch(
            *((0, iteration) if self.endless else divmod(iteration, self.length))
        )


def _can_skip(loader: DataLoader) -> bool:
    """Return whether mmengine resumes the sampler without loading data."""
    batches = loader.batch_sampler
    return type(batches) is BatchSampler and hasattr(batches.sampler, 'skip')


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Reseeds every iteration and batch so that resumed runs are bit-exact.

    mmengine does not save the states of the random number generators, and seeds
    the data workers alike in every epoch. With this hook the random numbers of
    an iteration and of its batch are functions of the seed, their number and
    the rank of the process. So a run that was killed and resumed gives the
    weights of an unbroken run, also with another number of workers. Works with
    loops over epochs and over iterations.

    Checkpoints hold only what `torch.load` reads by default, histories of the logs
    included.

    Loaders with a `worker_init_fn` of their own seed their workers themselves.
    Transforms that keep samples between batches, such as mmdet's
    `CachedMosaic`, depend on their history all the same.
    """

    # Seed after all that other hooks may draw.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.batches: BatchSeeds | None = None

    def before_train(self, runner: Runner) -> None:
        """Name what checkpoints cannot hold, before they are written."""
        data = getattr(getattr(runner, 'train_dataloader', None), 'dataset', None)
        meta = dict(dataset_meta=getattr(data, 'metainfo', None))
        make_plain(dict(meta=meta, message_hub=runner.message_hub.state_dict()))

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the first batch of an epoch, or of a loop over iterations."""
        loader = getattr(runner, 'train_dataloader', None)
        if _has_mmengines_start(loader):
            by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
            self.batches = BatchSeeds(loader, runner.seed, by_epoch)
        if self.batches is None:
            return
        if self.batches.by_epoch:
            self.batches.epoch = runner.epoch
        elif self.batches.endless:
            self.batches.first = runner.iter
        self._seed_data(runner, runner.iter)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the model for an iteration."""
        seed_everything(runner.seed, runner.iter, get_rank(), MODEL)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the next batch where this process loads it."""
        self._seed_data(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Seed a validation, which a resumed run may start with."""
        if isinstance(runner._train_loop, BaseLoop):
            seed_everything(runner.seed, runner.iter, get_rank(), VALIDATION)

    def after_val(self, runner: Runner) -> None:
        """Seed the next batch: a validation may have drawn numbers."""
        self._seed_data(runner, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save all in a form that can be read again, under any runner."""
        make_plain(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore what was made plain, under any runner."""
        if runner._resume:
            restore(checkpoint)

    def _seed_data(self, runner: Runner, iteration: int) -> None:
        if self.batches is not None and self.batches.workers == 0:
            self.batches.seed_iteration(iteration)


def _has_mmengines_start(loader: Any) -> bool:
    start = getattr(loader, 'worker_init_fn', None)
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and (
            start is None
            or (isinstance(start, partial) and start.func is mmengine_worker_init_fn)
        )
    )
