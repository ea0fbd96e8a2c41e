# SPDX-License-Identifier: Apache-2.0
"""Validation that a stopped run had not finished."""

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mmadaptor.engine.loops import validates_as_mmengine
from mmadaptor.registry import HOOKS

VALIDATED = 'last_validation'  # the key in the message hub


@HOOKS.register_module()
class MissingValidationHook(Hook):
    """Validates first when resuming a run that stopped during validation.

    mmengine saves a checkpoint and then validates. A run that is stopped in
    between and resumed would have no result of that epoch, and `save_best`
    would not know it.
    """

    # After CheckpointHook has read the best result so far.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Validate if that is due and not recorded in the checkpoint."""
        loop = runner.train_loop
        if not validates_as_mmengine(loop):
            return
        done = _done(runner)
        recorded = runner.message_hub.runtime_info.get(VALIDATED) == done
        if not (done and runner._resume and runner.val_loop) or recorded:
            return
        loop._decide_current_val_interval()
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        end = loop.max_epochs if by_epoch else loop.max_iters
        if done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            unit = 'epoch' if by_epoch else 'iteration'
            runner.logger.info(
                f'The validation of {unit} {done} is not recorded in the checkpoint: '
                'validating first.'
            )
            for hook in runner.hooks:
                if isinstance(hook, CheckpointHook):
                    # It then saves the checkpoint again with a new best result.
                    hook.last_ckpt = runner.message_hub.get_info('last_ckpt', None)
            runner.val_loop.run()
            runner.model.train()

    def before_val(self, runner: Runner) -> None:
        """Record the validation for checkpoints that are saved after it."""
        if isinstance(runner._train_loop, BaseLoop):
            runner.message_hub.update_info(VALIDATED, _done(runner))


def _done(runner: Runner) -> int:
    """Return the number of epochs, or of iterations, that are done."""
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return runner.epoch if by_epoch else runner.iter
