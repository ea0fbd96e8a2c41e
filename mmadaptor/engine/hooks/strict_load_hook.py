"""A checkpoint of another model is an error, not a warning."""

import logging
import re
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmadaptor.registry import HOOKS

from ..checkpoints.strict import load_strict


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
    """

    priority = 'VERY_HIGH'

    def __init__(self,
                 skip: Sequence[str] = (),
                 optional: Sequence[str] = ()) -> None:
        self.skip, self.optional = tuple(skip), tuple(optional)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Loads the weights and accounts for each of them.

        Args:
            runner: The runner whose model takes the weights.
            checkpoint: What the file holds; `skip` is taken out of it.

        Raises:
            CheckpointMismatchError: Names or shapes do not fit.
        """
        weights = checkpoint.get('state_dict', checkpoint)
        weights = {
            re.sub(r'^module\.', '', name): value
            for name, value in weights.items()
        }
        for name in list(weights):
            if any(re.search(pattern, name) for pattern in self.skip):
                del weights[name]
        checkpoint['state_dict'] = weights
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        source = runner.cfg.get('load_from') or 'The checkpoint'
        absent = [name for name in set(model.state_dict()) - set(weights)
                  if any(re.search(p, name) for p in self.optional)]
        if absent:
            print_log(f'{source} lacks {len(absent)} weights, such as '
                      f'{min(absent)}, which stay as the model starts them.',
                      'current', logging.WARNING)
        load_strict(model, weights, source, optional=self.skip + self.optional)
