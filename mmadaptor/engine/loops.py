# SPDX-License-Identifier: Apache-2.0
"""Checks of loops, whose faults would show after the first epoch or never."""

from bisect import bisect

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop

from mmadaptor.errors import InputError
from mmadaptor.toolbox_code import of_library, of_toolbox


def check_batches(loop: BaseLoop) -> None:
    """Check that a loop that trains by epochs, or by rounds of its data, has a batch.

    Raises:
        InputError: It has none.
    """
    batches = getattr(getattr(loop, 'dataloader', None), 'batch_sampler', None)
    in_rounds = isinstance(loop, IterBasedTrainLoop) and isinstance(
        getattr(batches, 'sampler', None), DefaultSampler
    )
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    if (by_epoch or in_rounds) and not len(loop.dataloader):
        size = len(loop.dataloader.dataset)
        reason = ' are fewer than batch_size, and drop_last=True' if size else ''
        raise InputError(
            f'`train_dataloader` has no batch: its {size} samples{reason}.'
        )


def check_end(loop: BaseLoop, key: str) -> None:
    """Check that an epoch over a data loader ends.

    A user-defined loop, sampler or batch may end it.

    Args:
        loop: A loop that goes through the data loader as a whole.
        key: The key of the data loader.

    Raises:
        InputError: Its sampler is that of training by iterations.
    """
    batches = getattr(getattr(loop, 'dataloader', None), 'batch_sampler', None)
    sampler = getattr(batches, 'sampler', None)
    if (
        isinstance(sampler, InfiniteSampler)
        and of_toolbox(type(loop))
        and of_toolbox(type(sampler).__iter__)
        and of_library(type(batches).__iter__)
    ):
        raise InputError(
            f'`{key}` never ends: its sampler, {type(sampler).__name__}, is for '
            f'IterBasedTrainLoop, and the loop is {type(loop).__name__}. Set '
            f"{key}.sampler.type='DefaultSampler'."
        )


def check_interval(loop: BaseLoop) -> None:
    """Check that mmengine can divide by the interval of the validations.

    It does so from `val_begin` on, by the interval that counts then. A loop of the
    user's own may validate whenever it likes.

    Raises:
        InputError: It would end the training at the first validation.
    """
    if not validates_as_mmengine(loop) or not is_reached(loop):
        return
    step = bisect(loop.dynamic_milestones, loop.val_begin + 1)
    interval = loop.dynamic_intervals[step - 1]
    try:
        1 % interval
    except (TypeError, ZeroDivisionError) as error:
        raise InputError(
            f'`train_cfg.val_interval` must be an integer of 1 or more, got '
            f'{interval!r}. To train without a validation, set val_cfg, val_dataloader '
            'and val_evaluator to None.'
        ) from error


def validates_as_mmengine(loop: BaseLoop) -> bool:
    """Return whether a training loop decides as mmengine's when it validates."""
    known = isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop)
    return known and of_toolbox(type(loop).run)


def is_reached(loop: EpochBasedTrainLoop | IterBasedTrainLoop) -> bool:
    """Return whether a training loop of mmengine gets to a validation."""
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    return loop.val_begin <= (loop.max_epochs if by_epoch else loop.max_iters)
