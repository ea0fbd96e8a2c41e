# SPDX-License-Identifier: Apache-2.0
"""Exceptions from strict loading, and strictness under other runners."""

import logging
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner

from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.checkpoints.strict import load_model, prepare
from mmadaptor.models.arguments import check_patterns
from mmadaptor.registry import HOOKS, RUNNERS


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Names the weights that may differ when a training starts.

    Loading fails on missing, left-over and misshapen weights, where mmengine
    logs them and continues. `mmadaptor.Runner` loads strictly by itself; under
    any other runner, such as `FlexibleRunner` or the one that mmseg's test tool
    builds, this hook does it.

    Args:
        skip: Regular expressions. Weights whose names match keep their initial
            values, whatever the checkpoint holds: heads, if a detector is
            fine-tuned to other classes.
        optional: Regular expressions. Weights whose names match may be missing
            in the checkpoint and then keep their initial values: adaptors, if
            the checkpoint is a base without them.

    Both apply only if a training starts from a checkpoint. Resuming and testing
    need every weight.

    Raises:
        ValueError: `skip` or `optional` is not a list of regular expressions.
    """

    priority = 'VERY_HIGH'

    def __init__(self, skip: Sequence[str] = (), optional: Sequence[str] = ()) -> None:
        check_patterns('skip', skip)
        check_patterns('optional', optional)
        self.skip, self.optional = tuple(skip), tuple(optional)
        self.trained = False

    def before_run(self, runner: Runner) -> None:
        """Warn which guarantees a runner other than ours lacks."""
        if is_ours(runner):
            return
        print_log(
            f'{type(runner).__name__} reads checkpoints weights-only and loads '
            'them strictly. It does not check the data before the start, save '
            'atomically or skip damaged checkpoints: mmadaptor.Runner does.',
            'current',
            logging.WARNING,
        )

    def before_train(self, runner: Runner) -> None:
        """End the exceptions: what is loaded from now on is not a start."""
        self.trained = True

    def exceptions(self, runner: Runner) -> tuple:
        """Return the exceptions for the checkpoint that is loaded now."""
        # A training builds its loop before it loads; a test builds no such loop.
        starts = (
            isinstance(getattr(runner, '_train_loop', None), BaseLoop)
            and not runner._resume
            and not self.trained
        )
        return (self.skip, self.optional, True) if starts else ((), (), False)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the weights strictly, unless the runner does.

        Raises:
            CheckpointMismatchError: Names or shapes do not fit.
        """
        if is_ours(runner):
            return
        source = runner.cfg.get('load_from') or 'The checkpoint'
        model = unwrapped(runner.model)
        skip, optional, starts = self.exceptions(runner)
        prepare(model, checkpoint, source, skip)
        load_model(model, checkpoint, source, skip, optional, starts)


def is_ours(runner: Runner) -> bool:
    """Return whether a runner is `mmadaptor.Runner`, which imports this module."""
    return isinstance(runner, RUNNERS.module_dict.get('Runner', ()))
