# SPDX-License-Identifier: Apache-2.0
"""Guard against losses, gradients and weights that are not finite."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, find_latest_checkpoint

from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.engine.optim import each_wrapper
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
    optimizer states that are not finite is never written, except buffers that were
    so when the training started, such as a mask of `-inf`, and such frozen parameters.

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
        self.skipped = self.stepped = self.named = False
        self.known: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Watch the steps of the optimizers.

        Raises:
            InputError: A weight is not finite before the first step.
        """
        for wrapper in each_wrapper(runner.optim_wrapper):
            look = partial(self._before_step, look=not _skips(wrapper))
            wrapper.optimizer.register_step_pre_hook(look)
        model = unwrapped(runner.model)
        parameters = dict(model.named_parameters())
        bad = _not_finite(parameters)
        masks = {name for name in bad if _is_mask(parameters[name])}
        if bad := [name for name in bad if name not in masks]:
            raise InputError(
                f'The training starts from weights that are not finite: {_some(bad)}. '
                'Use another checkpoint.'
            )
        self.known = {*_not_finite(dict(model.named_buffers())), *masks}

    def _before_step(
        self, optimizer: torch.optim.Optimizer, *_: Any, look: bool
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        # Of several optimizers, one may step and another not.
        if not (look and gradients) or _finite(gradients):
            self.stepped = True
        else:
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
        skipped, stepped = self.skipped, self.stepped
        self.skipped = self.stepped = False
        # Of gradients that are accumulated, a loss may have been named before.
        bad = bool(losses) or (skipped and not self.named)
        self.named = not (skipped or stepped) and (self.named or bool(losses))
        if bad:
            self._count(runner, losses, skipped, stepped, _files_of(data_batch))
        elif stepped:
            self.in_a_row = 0

    def _count(
        self,
        runner: Runner,
        losses: list[str],
        skipped: bool,
        stepped: bool,
        files: str,
    ) -> None:
        # A step was taken: its gradients were finite, whatever the losses say.
        self.in_a_row = 0 if stepped and not skipped else self.in_a_row + 1
        cause = f'{", ".join(losses)} is' if losses else 'the gradients are'
        message = (
            f'Iteration {runner.iter + 1}: {cause} not finite. '
            f'{"The step was skipped. " if skipped else ""}Its batch: {files}.'
        )
        runner.logger.warning(message)
        if self.in_a_row > self.max_skipped:
            raise InputError(
                f'{message}\nThis was iteration {self.in_a_row} of these in a row; '
                f'NonFiniteHook allows {self.max_skipped}.{_how_to_continue(runner)}'
            )
        self._refuse(runner, dict(unwrapped(runner.model).named_buffers()), message)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save what is not finite.

        Raises:
            InputError: A weight, buffer or optimizer state is not finite.
        """
        for key in ('state_dict', 'ema_state_dict', 'optimizer'):
            tensors = dict(_tensors(checkpoint.get(key)))
            self._refuse(runner, tensors, 'A checkpoint was not saved.')

    def _refuse(self, runner: Runner, tensors: Mapping, what: str) -> None:
        # EMAHook's names start with the attribute that has the averaged model.
        names = [
            name
            for name in _not_finite(tensors)
            if name.removeprefix('module.') not in self.known
        ]
        if names:
            raise InputError(
                f'{what} The model or optimizer is not finite: {_some(names)}.'
                f'{_how_to_continue(runner)}'
            )


def _skips(wrapper: OptimWrapper) -> bool:
    """Return whether a gradient scaler skips steps by itself."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    # Scalers of others have no switch.
    return scaler is not None and getattr(scaler, 'is_enabled', lambda: True)()


def _some(names: list[str]) -> str:
    return f'{names[0]} and {len(names) - 1} more' if len(names) > 1 else names[0]


@torch.no_grad()
def _finite(gradients: list[torch.Tensor]) -> bool:
    """Return whether all gradients are finite.

    By the kernel of torch's gradient scalers with a scale of 1, which takes less
    than half the time of a norm. It is not there for every layout and type.
    """
    groups = defaultdict(list)
    for gradient in gradients:
        groups[gradient.device, gradient.dtype].append(gradient)
    try:
        for (device, _), group in groups.items():
            found, scale = torch.zeros(1, device=device), torch.ones(1, device=device)
            torch._amp_foreach_non_finite_check_and_unscale_(group, found, scale)
            if found:
                return False
        return True
    except RuntimeError:
        return all(map(_exactly_finite, gradients))


def _exactly_finite(tensor: torch.Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    if values.element_size() == 1:  # float8
        values = values.float()
    return bool(torch.isfinite(values).all())


def _losses_not_finite(outputs: Any) -> list[str]:
    """Return the names and values of the losses that are not finite."""
    if not isinstance(outputs, Mapping):
        return []
    total = outputs.get('loss')
    if isinstance(total, torch.Tensor) and total.isfinite().all():
        return []
    losses = {
        name: torch.as_tensor(value).detach()
        for name, value in outputs.items()
        if 'loss' in name and isinstance(value, torch.Tensor | float)
    }
    return [
        f'{name} = {value.mean().item()}'
        for name, value in losses.items()
        if not torch.isfinite(value).all()
    ]


def _not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of tensors that are not finite."""
    return [name for name, value in tensors.items() if not _exactly_finite(value)]


def _tensors(node: Any, name: str = '') -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(node, torch.Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f'{name}.{key}'.lstrip('.'))


def _is_mask(parameter: torch.nn.Parameter) -> bool:
    """Return whether a parameter that is not finite is frozen and a mask of `-inf`."""
    is_real = not parameter.requires_grad and not parameter.is_complex()
    return is_real and bool((parameter < math.inf).all())


def _samples(node: Any) -> Iterator[Any]:
    """Walk the samples of a batch; semi-supervised ones are dicts of lists."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _samples(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _samples(value)
    elif not isinstance(node, torch.Tensor):
        yield node


def _files_of(data_batch: Any) -> str:
    """Return the paths of the images of a batch."""
    batch = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
    paths = [
        str(path)
        for sample in _samples(batch)
        if (path := getattr(sample, 'img_path', getattr(sample, 'img_id', None)))
    ]
    more = f' and {len(paths) - SHOWN} more' if len(paths) > SHOWN else ''
    return ', '.join(paths[:SHOWN]) + more if paths else 'it names no files'


def _how_to_continue(runner: Runner) -> str:
    last = find_latest_checkpoint(runner.work_dir)
    saved = f'The last checkpoint is {last}: ' if last else 'There is no checkpoint: '
    return (
        f' {saved}check the files that the log names, lower the learning rate or clip '
        f'the gradients, then {"resume" if last else "start again"}.'
    )
