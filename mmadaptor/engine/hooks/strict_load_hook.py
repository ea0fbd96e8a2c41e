# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of another model is an error, not a warning."""

import re
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mmadaptor.checkpoints.strict import (
    load_strict,
    merging_hint,
    note_absent,
    weights_of,
)
from mmadaptor.errors import CheckpointMismatchError
from mmadaptor.registry import HOOKS

HINT = (
    '\nTo train parts anew, such as a head for other classes, name them: '
    "custom_hooks=[dict(type='mmadaptor.StrictLoadHook', "
    "skip=[r'^head\\.'])]."
)


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Fails when `load_from`, resume or test meet a checkpoint that misfits.

    mmengine logs missing, left-over and misshapen weights, and goes on with
    what was there before.

    Args:
        skip: Regular expressions; weights whose names match are left as they
            are, whatever the checkpoint holds: the heads, where a detector is
            fine-tuned to other classes.
        optional: Regular expressions; weights whose names match may be missing
            in the checkpoint, and start as the model does: adaptors, where a
            base is loaded into its booster.

    Both hold where a training starts from a checkpoint; one that goes on, and
    a test, need every weight.
    """

    priority = 'VERY_HIGH'

    def __init__(self, skip: Sequence[str] = (), optional: Sequence[str] = ()) -> None:
        self.skip, self.optional = tuple(skip), tuple(optional)
        self.trained = False

    def before_train(self, runner: Runner) -> None:
        """Whatever is loaded from now on is no start.

        Args:
            runner: The runner of the training.
        """
        self.trained = True

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Loads the weights and accounts for each of them.

        Args:
            runner: The runner whose model takes the weights.
            checkpoint: What the file holds; `skip` is taken out of it.

        Raises:
            CheckpointMismatchError: Names or shapes do not fit.
        """
        source = runner.cfg.get('load_from') or 'The checkpoint'
        weights = {
            re.sub(r'^module\.', '', name): value
            for name, value in weights_of(checkpoint, source).items()
        }
        starts = self._starts(runner)
        skip, optional = (self.skip, self.optional) if starts else ((), ())
        skipped = [name for name in weights if _matches(name, skip)]
        averages = checkpoint.get('ema_state_dict', {})
        for name in skipped:
            del weights[name]
            # mmengine's EMAHook swaps the weights and their averages.
            averages.pop(f'module.{name}', None)
        checkpoint['state_dict'] = weights
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        try:
            absent = load_strict(model, weights, source, optional=skip + optional)
        except CheckpointMismatchError as error:
            hint = merging_hint(checkpoint) or (HINT if starts else '')
            raise CheckpointMismatchError(f'{error}{hint}') from error
        note_absent(source, [n for n in absent if not _matches(n, skip)])

    def _starts(self, runner: Runner) -> bool:
        """Whether the checkpoint is what a training starts from."""
        # The runner builds its loop first, in a training alone.
        return (
            isinstance(runner._train_loop, BaseLoop)
            and not runner._resume
            and not self.trained
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)
