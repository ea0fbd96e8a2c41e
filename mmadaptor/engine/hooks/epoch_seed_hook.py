# SPDX-License-Identifier: Apache-2.0
"""A killed and resumed run ends where an unbroken one does."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadaptor.errors import InputError
from mmadaptor.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every generator from (seed, epoch, rank) as an epoch starts.

    mmengine saves no generator's state, and seeds the data workers alike in
    every epoch. With this hook an epoch depends only on the weights it starts
    with and on its number, so a run resumed from any epoch's checkpoint gives
    the same weights as one that never stopped. For loops over epochs; a loop
    over iterations is seeded once.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuses workers that outlive an epoch.

        Args:
            runner: The runner of the training.

        Raises:
            InputError: The training data loader has persistent workers.
        """
        if getattr(runner.train_dataloader, 'persistent_workers', False):
            raise InputError(
                'EpochSeedHook seeds the data workers as they start, so they '
                'have to start with each epoch: set '
                'train_dataloader.persistent_workers=False.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds this process and the workers that it is about to start.

        Args:
            runner: The runner of the training.
        """
        sequence = np.random.SeedSequence((runner.seed, runner.epoch, get_rank()))
        own, workers = (int(s) for s in sequence.generate_state(2))
        random.seed(own)
        np.random.seed(own)
        torch.manual_seed(own)
        loader = runner.train_dataloader
        start = loader.worker_init_fn
        # Any other start function is the user's, and seeds as it wants.
        if isinstance(start, partial) and start.func is worker_init_fn:
            # The worker's number is added: the sum has to stay below 2**32.
            keywords = {**start.keywords, 'rank': 0, 'seed': workers >> 1}
            loader.worker_init_fn = partial(worker_init_fn, **keywords)
