# SPDX-License-Identifier: Apache-2.0
"""Random numbers depend only on seed, iteration, batch and rank."""

import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mmadaptor.engine import ExactResumeHook, Runner
from mmadaptor.engine.hooks import exact_resume_hook
from mmadaptor.engine.hooks.exact_resume_hook import BatchSeeds

EPOCHS, IMAGES, BATCH = 3, 10, 2
BATCHES = IMAGES // BATCH


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


class Draws(BaseDataset):
    """A dataset whose samples draw from all three random number generators."""

    def load_data_list(self):
        return [dict(number=i) for i in range(IMAGES)]

    def prepare_data(self, index):
        return (index, *draw())


def by_epoch(epochs=EPOCHS, start=0, seed=3, rank=0, validates=False, **loader):
    """Return the random numbers of each batch and of the model, epoch-based loop."""
    hook, drawn = ExactResumeHook(), []
    loader = Runner.build_dataloader(
        dict(
            dataset=Draws(),
            batch_size=BATCH,
            sampler=dict(type='DefaultSampler', shuffle=True),
            **loader,
        ),
        seed=seed,
    )
    loop = object.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(
        seed=seed, iter=start * BATCHES, train_dataloader=loader, train_loop=loop
    )
    for runner.epoch in range(start, epochs):
        loader.sampler.set_epoch(runner.epoch)
        hook.before_train_epoch(runner)
        for batch in loader:
            hook.before_train_iter(runner)
            drawn.append((batch, draw()))
            hook.after_train_iter(runner)
            runner.iter += 1
        if validates:
            draw()
            hook.after_val(runner)
    return drawn


@pytest.fixture(scope='module')
def expected():
    return by_epoch(num_workers=0)


@pytest.mark.parametrize(
    'loader',
    [
        dict(num_workers=0),
        dict(num_workers=1),
        dict(num_workers=2),
        dict(num_workers=3),
        dict(num_workers=2, persistent_workers=True),
        dict(num_workers=3, persistent_workers=True, prefetch_factor=1),
        dict(num_workers=7, persistent_workers=True),  # more workers than batches
    ],
    ids=str,
)
def test_any_number_of_workers_draws_the_same(loader, expected):
    assert by_epoch(**loader) == expected


@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_draws_the_same(workers, expected):
    assert by_epoch(start=1, num_workers=workers) == expected[BATCHES:]


def test_a_validation_changes_nothing(expected):
    assert by_epoch(num_workers=0, validates=True) == expected


def test_no_two_draws_are_equal(expected):
    numbers = [
        n for batch, model in expected for n in (*sum(_floats(batch), ()), *model)
    ]
    assert len(numbers) == len(set(numbers)) == EPOCHS * BATCHES * 3 * (BATCH + 1)


def _floats(batch):
    return [tuple(part) for part in batch[1:]]


def test_seed_and_rank_change_all(expected, monkeypatch):
    other = by_epoch(num_workers=0, seed=4)
    monkeypatch.setattr(exact_resume_hook, 'get_rank', lambda: 1)
    ranked = by_epoch(num_workers=0)
    for run in (other, ranked):
        assert not {m for _, m in run} & {m for _, m in expected}


def by_iteration(sampler, iterations=12, start=0, workers=0, **loader):
    """Return the same numbers as `by_epoch`, for mmengine's iteration-based loop."""
    hook, drawn = ExactResumeHook(), []
    loader = Runner.build_dataloader(
        dict(
            dataset=Draws(),
            batch_size=BATCH,
            num_workers=workers,
            sampler=dict(type=sampler, shuffle=True),
            **loader,
        ),
        seed=3,
    )
    runner = SimpleNamespace(
        seed=3, iter=start, train_dataloader=loader, epoch=0,
        visualizer=SimpleNamespace(),
    )  # fmt: skip
    loop = runner.train_loop = IterBasedTrainLoop(runner, loader, iterations)
    hook.before_train_epoch(runner)
    if start:
        loop.dataloader_iterator.skip_iter(start)
    for runner.iter in range(start, iterations):
        batch = next(loop.dataloader_iterator)
        hook.before_train_iter(runner)
        drawn.append((batch, draw()))
        hook.after_train_iter(runner)
    runner.train_loop = None  # this reference cycle would keep the workers alive
    return drawn


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
def test_loops_over_iterations_draw_the_same(sampler, monkeypatch):
    """Resume in the first or a later epoch, with another number of workers."""
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)
    expected = by_iteration(sampler)
    assert len({m for _, m in expected}) == 12
    for start, workers in ((0, 2), (3, 0), (3, 2), (7, 0), (7, 3)):
        for persistent in (False, True):
            got = by_iteration(
                sampler, start=start, workers=workers, persistent_workers=persistent
            )
            assert got == expected[start:], (start, workers, persistent)


def test_a_spawned_worker_keeps_its_rank(monkeypatch):
    """Spawned workers are not in the process group."""
    loader = DataLoader(Draws())
    monkeypatch.setattr(exact_resume_hook, 'get_rank', lambda: 1)
    content = pickle.dumps(exact_resume_hook.BatchSeeds(loader, 3, by_epoch=True))
    numbers = []
    for rank in (1, 0):
        monkeypatch.setattr(exact_resume_hook, 'get_rank', lambda rank=rank: rank)
        pickle.loads(content).seed_batch(0, 0)
        numbers.append(draw())
    assert numbers[0] == numbers[1]


def test_an_endless_sampler_is_resumed_without_reading_the_data(monkeypatch):
    read = []
    original = Draws.prepare_data
    monkeypatch.setattr(
        Draws,
        'prepare_data',
        lambda self, index: (read.append(index), original(self, index))[1],
    )
    by_iteration(InfiniteSampler, iterations=9, start=7)
    assert len(read) == 2 * BATCH


def test_a_start_function_and_a_generator_of_the_user_are_left_alone():
    def mine(worker):
        pass

    loader = DataLoader(Draws(), worker_init_fn=mine)
    collate = loader.collate_fn
    runner = SimpleNamespace(
        seed=1, epoch=0, iter=0, train_dataloader=loader,
        train_loop=object.__new__(EpochBasedTrainLoop),
    )  # fmt: skip
    ExactResumeHook().before_train_epoch(runner)
    assert loader.worker_init_fn is mine and loader.collate_fn is collate
    runner.train_dataloader = loader = DataLoader(Draws(), generator=torch.Generator())
    generator = loader.generator
    ExactResumeHook().before_train_epoch(runner)
    assert loader.collate_fn is not collate and loader.generator is generator


class OwnBatchSampler(BatchSampler):
    """A batch sampler that mmengine does not know."""


@pytest.mark.parametrize('kind', [BatchSampler, OwnBatchSampler, None])
@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
def test_batches_are_numbered_as_mmengine_resumes_the_sampler(sampler, kind):
    sampler = sampler(Draws())
    batches = kind and kind(sampler, BATCH, drop_last=False)
    samplers = dict(batch_sampler=batches) if kind else dict(sampler=sampler)
    loader = DataLoader(Draws(), **samplers)
    skips = _InfiniteDataloaderIterator(loader)._resolve_sampler() is not None
    assert BatchSeeds(loader, 3, by_epoch=False).endless == skips
    assert skips == (type(sampler) is InfiniteSampler and kind is not OwnBatchSampler)
    assert not BatchSeeds(loader, 3, by_epoch=True).endless


def test_a_validation_draws_the_same_after_a_resume():
    hook, numbers = ExactResumeHook(), []
    runner = SimpleNamespace(seed=3, iter=5, train_loop=None)
    runner._train_loop = object.__new__(EpochBasedTrainLoop)
    for runner.iter in (5, 5, 6):
        hook.before_val(runner)
        numbers.append(draw())
    assert numbers[0] == numbers[1] != numbers[2]
    runner._train_loop = None  # a validation by itself
    hook.before_val(runner)
    assert draw() != numbers[2]


class Stream(IterableDataset):
    """A dataset without a length."""

    def __iter__(self):
        return iter([1, 2])


def test_loaders_of_other_kinds_are_left_alone():
    """The schedule tools of the toolboxes use such loaders."""
    hook = ExactResumeHook()
    for loader in ([1, 2], None, DataLoader(Stream())):
        runner = SimpleNamespace(seed=1, epoch=0, iter=0, train_dataloader=loader)
        hook.before_train_epoch(runner)
        hook.before_train_iter(runner)
        hook.after_train_iter(runner)
