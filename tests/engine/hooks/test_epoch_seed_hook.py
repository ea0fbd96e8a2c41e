# SPDX-License-Identifier: Apache-2.0
"""An epoch depends on the weights it starts with and on its number."""

import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import worker_init_fn

from mmadaptor.engine import EpochSeedHook
from mmadaptor.errors import InputError


def draws(epoch, rank, monkeypatch, seed=3):
    monkeypatch.setattr('mmadaptor.engine.hooks.epoch_seed_hook.get_rank', lambda: rank)
    loader = SimpleNamespace(
        worker_init_fn=partial(worker_init_fn, num_workers=2, rank=rank, seed=seed)
    )
    runner = SimpleNamespace(seed=seed, epoch=epoch, train_dataloader=loader)
    EpochSeedHook().before_train_epoch(runner)
    own = random.random(), np.random.rand(), torch.rand(()).item()
    workers = []
    for worker in range(2):
        loader.worker_init_fn(worker)
        workers += [random.random(), np.random.rand(), torch.rand(()).item()]
    return [*own, *workers]


def test_seeds_depend_on_seed_epoch_and_rank_alone(monkeypatch):
    again = [draws(1, 0, monkeypatch) for _ in range(2)]
    assert again[0] == again[1]
    others = [
        draws(0, 0, monkeypatch),
        draws(1, 1, monkeypatch),
        draws(1, 0, monkeypatch, seed=4),
    ]
    for other in others:
        assert not set(other) & set(again[0])
    # This process and each of its workers draw differently.
    assert len(set(again[0])) == 9


def test_a_start_function_of_the_user_is_left_alone():
    def mine(worker):
        pass

    loader = SimpleNamespace(worker_init_fn=mine)
    EpochSeedHook().before_train_epoch(
        SimpleNamespace(seed=1, epoch=0, train_dataloader=loader)
    )
    assert loader.worker_init_fn is mine


def test_persistent_workers_are_refused():
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(persistent_workers=True))
    with pytest.raises(InputError, match='persistent_workers=False'):
        EpochSeedHook().before_train(runner)
