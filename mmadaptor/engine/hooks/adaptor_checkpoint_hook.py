# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of what was tuned, without the frozen base."""

from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from mmadaptor.checkpoints import adaptor_only
from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.checkpoints.pretrained import find_pretrained
from mmadaptor.errors import InputError
from mmadaptor.registry import HOOKS


@HOOKS.register_module()
class AdaptorCheckpointHook(Hook):
    """Saves only the trained parameters, without the base.

    The base is what `init_cfg=dict(type='Pretrained', ...)` of the config
    loads. A checkpoint holds digests of the base and of what was tuned; both
    are checked when it is loaded
    (:func:`mmadaptor.checkpoints.adaptor_only.complete`).
    """

    def before_train(self, runner: Runner) -> None:
        """Log what trains, and check that only that is optimized.

        Raises:
            InputError: The optimizer has frozen parameters, no file holds the
                base, or there is an EMAHook, whose copy of the base would be
                saved.
        """
        model = unwrapped(runner.model)
        trainable, total = adaptor_only.count_trainable(model)
        share = f'{100 * trainable / total:.3f} %'
        text = f'Trainable: {trainable:,} of {total:,} parameters ({share}).'
        print_log(text, 'current')
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            text = 'exclude each other: an averaged model has its own base.'
            raise InputError(f'AdaptorCheckpointHook and EMAHook {text}')
        _check_base_file(model, runner.cfg)
        # The wrapper's own groups include one that is not of the model.
        groups = runner.optim_wrapper.optimizer.param_groups
        frozen = sum(not p.requires_grad for group in groups for p in group['params'])
        if frozen:
            raise InputError(
                f'The optimizer has {frozen} frozen parameters. Set '
                "optim_wrapper.constructor='mmadaptor.OptimWrapperConstructor', "
                'which leaves them out.'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the base to a checkpoint that lacks it, unless the runner did.

        Raises:
            InputError: The checkpoint was changed, or has another base.
        """
        source = runner.cfg.get('load_from') or 'The checkpoint'
        adaptor_only.complete(unwrapped(runner.model), checkpoint, source)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove the base from a checkpoint."""
        adaptor_only.take_base_out(unwrapped(runner.model), checkpoint)


def _check_base_file(model: nn.Module, cfg: Config) -> None:
    """Refuse a frozen weight that no pretrained file holds."""
    prefixes = _with_a_file(cfg)
    # A wrapper may give its parts other names than the config does.
    renamed = prefixes and not any(
        name.startswith(prefixes) for name, _ in model.named_parameters()
    )
    bare = [n for n in adaptor_only.base_state(model) if not n.startswith(prefixes)]
    if bare and not renamed:
        raise InputError(
            f'AdaptorCheckpointHook saves no base, and {bare[0]} is frozen, but '
            "no init_cfg=dict(type='Pretrained', ...) of the config names a "
            'file for that part of the model. Its checkpoints could not be '
            'loaded again. Name a file, or remove the hook.'
        )


def _with_a_file(cfg: Config) -> tuple[str, ...]:
    """Return the prefixes of the weights that a pretrained file holds."""
    found = []
    for key, _ in find_pretrained(cfg.get('model')):
        # backbone.init_cfg.checkpoint, or backbone.pretrained, or pretrained,
        # which is that of the backbone except in mmpretrain.
        path = f'{key}.'.partition('.')[2]
        cut = 'pretrained.' if path.endswith('pretrained.') else 'init_cfg.'
        of_backbone = path == 'pretrained.' and cfg.get('default_scope') != 'mmpretrain'
        found.append('backbone.' if of_backbone else path.partition(cut)[0])
    return tuple(found)
