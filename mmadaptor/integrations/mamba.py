# SPDX-License-Identifier: Apache-2.0
"""The scan of transformers' Mamba language models by mmadaptor's op."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmadaptor.ops import selective_scan

NAME = 'mamba_selective_scan'
ARGUMENTS = (
    'hidden_states',
    'dt',
    'A',
    'B',
    'C',
    'D',
    'z',
    'delta_bias',
    'delta_softplus',
    'return_last_state',
)


def use_scan(model: nn.Module) -> contextlib.ExitStack:
    """Let transformers' Mamba models scan by :func:`mmadaptor.ops.selective_scan`.

    The function that transformers calls is replaced, as if `mamba_ssm` were installed:
    for every model of the process that has the same class of mixers. Training,
    generation with a cache, and padding masks work as before.

    Args:
        model: A Mamba, FalconMamba, Jamba or Zamba model from transformers.

    Returns:
        A context. Its `close()`, or the end of a `with` block, brings the previous
        function back.

    Raises:
        ValueError: The model has no such mixer. That of Mamba-2 scans differently.
        RuntimeError: This version of transformers has other arguments.
    """
    found = {}
    for module in model.modules():
        forward = inspect.unwrap(type(module).forward)
        names = getattr(forward, '__globals__', {})
        if NAME in names and NAME in forward.__code__.co_names:
            found[names['__name__']] = names
    if not found:
        raise ValueError(
            '`model` must have mixers of Mamba, FalconMamba or Jamba from transformers '
            f'5, which call {NAME}, got {type(model).__name__} without one'
        )
    replaced = contextlib.ExitStack()
    for module, names in found.items():
        previous = names[NAME]
        if previous is _scan:
            continue
        _check_arguments(module, previous)
        replaced.callback(names.__setitem__, NAME, previous)
        names[NAME] = _scan
    return replaced


def _check_arguments(module: str, function: Callable) -> None:
    got = tuple(inspect.signature(function).parameters)
    if got[: len(ARGUMENTS)] != ARGUMENTS:
        raise RuntimeError(
            f'{module}.{NAME} must have the arguments {", ".join(ARGUMENTS)}, as in '
            f'transformers 5.24, got {", ".join(got)}'
        )


def _scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **algorithm: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan with the arguments of transformers.

    Args:
        hidden_states: `(B, D, L)`.
        dt: `(B, D, L)`.
        A: `(D, N)`.
        B: `(B, N, L)`.
        C: `(B, N, L)`.
        D: `(D,)`.
        z: `(B, D, L)`.
        delta_bias: `(D,)`.
        delta_softplus: As in :func:`mmadaptor.ops.selective_scan`.
        return_last_state: As in :func:`mmadaptor.ops.selective_scan`.
        algorithm: `use_mambapy` and the like, which choose between other scans.
    """
    if hidden_states.dtype == torch.float64:  # transformers computes these in float32
        A, D, delta_bias = (
            None if t is None else t.double() for t in (A, D, delta_bias)
        )
    return selective_scan(
        hidden_states, dt, A, B, C, D, z, delta_bias, delta_softplus, return_last_state
    )
