# SPDX-License-Identifier: Apache-2.0
"""What a dry run works on, and what it puts back: it leaves no trace."""

import copy
import io
import logging
import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel

from mmadaptor.checkpoints.openmmlab import unwrapped

from .datasets import leaves

if TYPE_CHECKING:
    from ..runner import Runner

# What a sample takes something from. Files are iterators.
CONSUMED = (
    Iterator,
    random.Random,
    np.random.Generator,
    np.random.RandomState,
    torch.Generator,
)
# What a hook may keep an output in.
KEPT = (torch.nn.Module, torch.Tensor, dict, list, set)


class NotCopiedError(Exception):
    """Something cannot be copied, so it is not tried."""


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the states of the random number generators at the end."""
    python, arrays = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)


@contextmanager
def silent(logger: logging.Logger) -> Iterator[None]:
    """Hide what is printed, such as the metrics of a model that is not trained."""
    logger.disabled = True
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.disabled = False


@contextmanager
def as_in_training(runner: 'Runner') -> Iterator[None]:
    """Set the message hub as in the first iteration; restore it at the end.

    Models read the epoch, the iteration and their maxima there.
    """
    hubs = {
        id(hub): hub for hub in (runner.message_hub, MessageHub.get_current_instance())
    }
    kept = [(hub, dict(vars(hub))) for hub in hubs.values()]
    try:
        for hub, states in kept:
            vars(hub).update({name: _copied(state) for name, state in states.items()})
        if any(isinstance(hook, RuntimeInfoHook) for hook in runner.hooks):
            hook = RuntimeInfoHook()  # the runner's own keeps its state
            with suppress(Exception):  # of optimizer wrappers that have no rate yet
                hook.before_train(runner)
                hook.before_train_epoch(runner)
                hook.before_train_iter(runner, 0)
        yield
    finally:
        for hub, states in kept:
            vars(hub).clear()
            vars(hub).update(states)


def _copied(state: Any) -> Any:
    """Return a copy of a part of a message hub, as deep as its values allow."""
    if not isinstance(state, dict):
        return state
    copied = copy.copy(state)
    for name, value in state.items():
        with suppress(Exception):
            copied[name] = copy.deepcopy(value)
    return copied


def copy_of_model(model: torch.nn.Module) -> BaseModel | None:
    """Return a copy of a model; None if nothing is known of what a copy does.

    Raises:
        NotCopiedError: The model has parts that cannot be copied.
    """
    inner = unwrapped(model)
    wrapped = model is not inner and not isinstance(model, MMDistributedDataParallel)
    if wrapped or _leads_back(inner) or not isinstance(inner, BaseModel):
        return None
    return _deep(inner, {}, '')


def _leads_back(model: torch.nn.Module) -> bool:
    """Return whether a function in a copy of a model would change the model itself.

    Such as one in the place of a method, or a hook that was defined in a method and
    keeps outputs.
    """
    modules = list(model.modules())
    own = {
        id(value)
        for module in modules
        for value in (module, *vars(module).values())
        if isinstance(value, KEPT)
    }
    hooks = [
        hook
        for module in modules
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
        for hook in hooks.values()
        if isinstance(hook, FunctionType)
    ]
    return any(
        isinstance(vars(module).get('forward'), FunctionType) for module in modules
    ) or any(not own.isdisjoint(map(id, _held(hook))) for hook in hooks)


def _held(function: FunctionType) -> list:
    """Return what a function has of where it was defined."""
    cells = function.__closure__ or ()
    return [*(cell.cell_contents for cell in cells), *(function.__defaults__ or ())]


def copy_of_data(dataset: Any, of: str) -> Any:
    """Return a copy of the dataset of a loader that shares samples, but no pipelines.

    Raises:
        NotCopiedError: A transform, or what a sample is taken from, cannot be copied.
    """
    # What num_batch_per_epoch makes of a dataset cannot be copied.
    if type(dataset).__name__ == '_SlicedDataset':
        dataset = dataset._dataset
    shared = {
        id(value): value
        for _, leaf, _ in leaves(dataset, '')
        for name, value in getattr(leaf, '__dict__', {}).items()
        if not re.search('pipeline|transform', name) and not isinstance(value, CONSUMED)
    }
    return _deep(dataset, shared, f' of {of}')


def _deep(original: Any, shared: dict, where: str) -> Any:
    try:
        return copy.deepcopy(original, shared)
    except Exception as error:
        raise NotCopiedError(
            f'{type(original).__name__}{where} cannot be copied: {error}'
        ) from error
