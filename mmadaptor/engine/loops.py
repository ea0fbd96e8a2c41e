# SPDX-License-Identifier: Apache-2.0
"""Checks of loops, whose faults would show after the first epoch or never."""

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop

from mmadaptor.errors import InputError
from mmadaptor.toolbox_code import of_toolbox


def check_batches(loop: EpochBasedTrainLoop) -> None:
    """Check that an epoch has a batch.

    Raises:
        InputError: It has none.
    """
    if not len(loop.dataloader):
        size = len(loop.dataloader.dataset)
        reason = ' are fewer than batch_size, and drop_last=True' if size else ''
        raise InputError(
            f'`train_dataloader` has no batch: its {size} samples{reason}.'
        )


def check_end(loop: BaseLoop, key: str) -> None:
    """Check that an epoch over a data loader ends; a loop of the user's may end it.

    Args:
        loop: A loop that goes through the data loader as a whole.
        key: The key of the data loader.

    Raises:
        InputError: Its sampler is that of training by iterations.
    """
    batches = getattr(getattr(loop, 'dataloader', None), 'batch_sampler', None)
    sampler = getattr(batches, 'sampler', None)
    if isinstance(sampler, InfiniteSampler) and of_toolbox(type(loop)):
        raise InputError(
            f'`{key}` never ends: its sampler, {type(sampler).__name__}, is for '
            f'IterBasedTrainLoop, and the loop is {type(loop).__name__}. Set '
            f"{key}.sampler.type='DefaultSampler'."
        )


def check_interval(loop: BaseLoop) -> None:
    """Check that mmengine can divide by the interval of the validations.

    Raises:
        InputError: It would end the training after the first epoch.
    """
    interval = getattr(loop, 'val_interval', 1)
    try:
        1 % interval
    except (TypeError, ZeroDivisionError) as error:
        raise InputError(
            f'`train_cfg.val_interval` must be an integer of 1 or more, got '
            f'{interval!r}. To train without a validation, set val_cfg, val_dataloader '
            'and val_evaluator to None.'
        ) from error
