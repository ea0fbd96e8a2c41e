"""Checkpoints of what was tuned, without the frozen base that it stands on."""

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmadaptor.registry import HOOKS

from ..errors import CheckpointMismatchError, DamagedFileError, InputError
from ..tuned import base_state, count_trainable, identity

KEY = 'tuning'


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
            InputError: The optimizer has frozen parameters, or there is an
                EMAHook, whose copy of the base would be saved.
        """
        trainable, total = count_trainable(_bare(runner))
        print_log(
            f'Trainable: {trainable:,} of {total:,} parameters '
            f'({100 * trainable / total:.3f} %).', 'current')
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise InputError('AdaptorCheckpointHook and EMAHook exclude each '
                             'other: an averaged model has a base of its own.')
        # The wrapper's own groups have one more, which is not the model's.
        groups = runner.optim_wrapper.optimizer.param_groups
        frozen = sum(not p.requires_grad for group in groups
                     for p in group['params'])
        if frozen:
            raise InputError(
                f'The optimizer holds {frozen} frozen parameters. Give '
                'optim_wrapper a paramwise_cfg, such as '
                'dict(bypass_duplicate=True): with one mmengine leaves them '
                'out.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes the base out, and notes both fingerprints.

        Args:
            runner: The runner whose model is saved.
            checkpoint: What will be saved, which is changed.
        """
        base = base_state(_bare(runner))
        tuned = {name: value for name, value in checkpoint['state_dict'].items()
                 if name not in base}
        checkpoint['state_dict'] = tuned
        checkpoint['meta'][KEY] = dict(
            base=identity(base), tuned=identity(tuned))

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
        noted = checkpoint.get('meta', {}).get(KEY)
        if noted is None:
            return
        tuned = checkpoint['state_dict']
        source = runner.cfg.get('load_from') or 'The checkpoint'
        found = identity(tuned)
        if found != noted['tuned']:
            raise DamagedFileError(
                f'{source} was changed after it was saved: expected weights '
                f'with the fingerprint {noted["tuned"]}, got {found}.')
        model = _bare(runner)
        if not getattr(model, 'is_init', False):
            model.init_weights()  # which a test leaves out
        base = base_state(model)
        found = identity(base)
        if found != noted['base']:
            raise CheckpointMismatchError(
                f'{source} was tuned on another base: expected frozen weights '
                f'with the fingerprint {noted["base"]}, got {found}. The base '
                "is what the config's init_cfg=dict(type='Pretrained', ...) "
                'loads.')
        checkpoint['state_dict'] = {**base, **tuned}


def _bare(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
