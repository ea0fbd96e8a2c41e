# SPDX-License-Identifier: Apache-2.0
"""Guard against losses, gradients and weights that are not finite."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner, find_latest_checkpoint
from torch.nn.utils import get_total_norm

from mmadaptor.errors import InputError
from mmadaptor.registry import HOOKS

SHOWN = 8  # files that a message names at most


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Skips steps whose gradients are not finite, and stops if they go on.

    One NaN in a gradient makes all weights NaN, and the checkpoints after it.
    With this hook the optimizer leaves such a step out, and the log names the
    iteration and the files of its batch. After several such iterations in a row
    the training stops with an error. A checkpoint with weights, buffers or
    optimizer states that are not finite is never written, unless they were so
    when the training started, such as a mask of `-inf`.

    Costs one pass over the gradients and one synchronization per step, where
    mmengine synchronizes for each logged loss.

    Args:
        max_skipped: Iterations in a row that are skipped; the next one stops
            the training. 0 stops it at the first. Default: 10 (our choice).
    """

    # After EMAHook has added its weights to a checkpoint.
    priority = 'LOWEST'

    def __init__(self, max_skipped: int = 10) -> None:
        if not isinstance(max_skipped, int) or max_skipped < 0:
            raise InputError(
                f'max_skipped of NonFiniteHook: expected 0 or more, got {max_skipped!r}'
            )
        self.max_skipped = max_skipped
        self.in_a_row = 0
        self.skipped = False
        self.known: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Watch the steps of the optimizers."""
        wrapper = runner.optim_wrapper
        wrappers = (
            wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        )
        for each in wrappers:
            each.optimizer.register_step_pre_hook(self._skip_if_not_finite)
        self.known = set(_not_finite(dict(state_dict=runner.model.state_dict())))

    def _skip_if_not_finite(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients and not _finite(gradients):
            self.skipped = True
            for parameter in parameters:
                parameter.grad = None  # an optimizer passes over it

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Name an iteration that was skipped, or whose loss is not finite.

        Raises:
            InputError: There were too many in a row, or buffers of the model
                are not finite either.
        """
        losses = _losses_not_finite(outputs)
        if not losses and not self.skipped:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        cause = ', '.join(losses) or 'the gradients'
        how = 'the step was skipped' if self.skipped else 'no step was skipped'
        self.skipped = False
        message = (
            f'Iteration {runner.iter + 1}: {cause} not finite; {how}. '
            f'Its batch: {_files_of(data_batch)}'
        )
        runner.logger.warning(message)
        if self.in_a_row > self.max_skipped:
            raise InputError(
                f'{message}\nThat were {self.in_a_row} iterations in a row, of which '
                f'NonFiniteHook skips {self.max_skipped}.{_how_to_continue(runner)}'
            )
        self._refuse(
            runner, dict(state_dict=dict(runner.model.named_buffers())), message
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save what is not finite.

        Raises:
            InputError: A weight, buffer or optimizer state is not finite.
        """
        self._refuse(runner, checkpoint, f'Iteration {runner.iter + 1}')

    def _refuse(self, runner: Runner, checkpoint: Mapping, where: str) -> None:
        names = [name for name in _not_finite(checkpoint) if name not in self.known]
        if names:
            more = f' and {len(names) - 1} more' if len(names) > 1 else ''
            raise InputError(
                f'{where}: not finite: {names[0]}{more}. Nothing was saved.'
                f'{_how_to_continue(runner)}'
            )


def _finite(tensors: list[torch.Tensor]) -> bool:
    """Return whether all are finite.

    The norm is ten times faster than the exact answer, but overflows from 1e19.
    """
    fast = bool(torch.isfinite(get_total_norm(tensors)))
    return fast or all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _losses_not_finite(outputs: Any) -> list[str]:
    """Return the names and values of the losses that are not finite."""
    if not isinstance(outputs, Mapping):
        return []
    losses = {
        name: torch.as_tensor(value).detach()
        for name, value in outputs.items()
        if 'loss' in name and isinstance(value, torch.Tensor | float)
    }
    total = losses.get('loss')
    if total is not None and torch.isfinite(total).all():
        return []
    return [
        f'{name} = {value.mean().item()}'
        for name, value in losses.items()
        if not torch.isfinite(value).all()
    ]


def _not_finite(checkpoint: Mapping) -> Iterator[str]:
    """Walk the weights and optimizer states of a checkpoint; yield names."""
    tensors = {
        f'{key}.{name}': value
        for key in ('state_dict', 'ema_state_dict', 'optimizer')
        for name, value in _tensors(checkpoint.get(key))
    }
    if tensors and not _finite(list(tensors.values())):
        yield from (name for name, value in tensors.items() if not _finite([value]))


def _tensors(node: Any, name: str = '') -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(node, torch.Tensor):
        if node.is_floating_point() and node.numel():
            yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f'{name}.{key}'.lstrip('.'))


def _files_of(data_batch: Any) -> str:
    """Return the paths of the images of a batch."""
    samples = (
        data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
    )
    paths = [
        str(getattr(sample, 'img_path', None) or getattr(sample, 'img_id', '?'))
        for sample in samples or ()
    ]
    more = f' and {len(paths) - SHOWN} more' if len(paths) > SHOWN else ''
    return ', '.join(paths[:SHOWN]) + more if paths else 'it names no files'


def _how_to_continue(runner: Runner) -> str:
    last = find_latest_checkpoint(runner.work_dir)
    saved = f'The last checkpoint is {last}: ' if last else 'There is no checkpoint: '
    return (
        f' {saved}check the files named above, lower the learning rate or clip the '
        f'gradients, then {"resume" if last else "start again"}.'
    )
