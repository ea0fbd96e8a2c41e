# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of what was tuned, without the frozen base that it stands on."""

from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmadaptor.checkpoints.adaptor_only import (
    NOTED,
    base_state,
    complete,
    count_trainable,
    fingerprints,
)
from mmadaptor.checkpoints.pretrained import find_pretrained
from mmadaptor.errors import InputError
from mmadaptor.registry import HOOKS


@HOOKS.register_module()
class AdaptorCheckpointHook(Hook):
    """Saves what trains alone, and loads it over the base it was trained on.

    The base is what the config's `init_cfg=dict(type='Pretrained', ...)`
    loads. A checkpoint has the fingerprints of both, and both are checked. The
    log says how much of the model trains.
    """

    # StrictLoadHook has to find the checkpoint complete.
    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Logs what trains, and checks that the optimizer has nothing else.

        Args:
            runner: The runner of the training.

        Raises:
            InputError: The optimizer has frozen parameters, no file holds
                the base, or there is an EMAHook, whose copy of the base would
                be saved.
        """
        trainable, total = count_trainable(_bare(runner))
        print_log(
            f'Trainable: {trainable:,} of {total:,} parameters '
            f'({100 * trainable / total:.3f} %).',
            'current',
        )
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise InputError(
                'AdaptorCheckpointHook and EMAHook exclude each '
                'other: an averaged model has a base of its own.'
            )
        files = _with_a_file(runner.cfg)
        # A wrapper may give its parts other names than the config does.
        renamed = files and not any(
            name.startswith(files) for name, _ in _bare(runner).named_parameters()
        )
        bare = [
            name for name in base_state(_bare(runner)) if not name.startswith(files)
        ]
        if bare and not renamed:
            raise InputError(
                f'AdaptorCheckpointHook saves no base, and {bare[0]}, which '
                'is frozen, is in no part of the model whose init_cfg=dict('
                "type='Pretrained', ...) names a file of it: what was tuned "
                'could not be loaded again. Name one, or leave the hook out.'
            )
        # The wrapper's own groups have one more, which is not the model's.
        groups = runner.optim_wrapper.optimizer.param_groups
        frozen = sum(not p.requires_grad for group in groups for p in group['params'])
        if frozen:
            raise InputError(
                f'The optimizer holds {frozen} frozen parameters. Give '
                'optim_wrapper a paramwise_cfg, such as '
                'dict(bypass_duplicate=True): with one mmengine leaves them '
                'out.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes the base out, and notes both fingerprints.

        Args:
            runner: The runner whose model is saved.
            checkpoint: What will be saved, which is changed.
        """
        base = base_state(_bare(runner))
        tuned = {
            name: value
            for name, value in checkpoint['state_dict'].items()
            if name not in base
        }
        checkpoint['state_dict'] = tuned
        checkpoint['meta'][NOTED] = dict(
            base=fingerprints(base), tuned=fingerprints(tuned)
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Completes what was tuned with the base.

        Args:
            runner: The runner whose model takes the weights.
            checkpoint: What the file holds, which is changed. One that was not
                saved by this hook is left as it is.

        Raises:
            DamagedFileError: What was tuned is not what was saved.
            CheckpointMismatchError: The base is another one.
        """
        source = runner.cfg.get('load_from') or 'The checkpoint'
        complete(_bare(runner), checkpoint, source)


def _with_a_file(cfg: Config) -> tuple[str, ...]:
    """How the names of weights begin that a pretrained file holds."""
    found = []
    for key, _ in find_pretrained(cfg.get('model')):
        # backbone.init_cfg.checkpoint, or backbone.pretrained, or pretrained,
        # which is the backbone's but of mmpretrain's models.
        path = f'{key}.'.partition('.')[2]
        cut = 'pretrained.' if path.endswith('pretrained.') else 'init_cfg.'
        of_backbone = path == 'pretrained.' and cfg.get('default_scope') != 'mmpretrain'
        found.append('backbone.' if of_backbone else path.partition(cut)[0])
    return tuple(found)


def _bare(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
