# SPDX-License-Identifier: Apache-2.0
"""The scan over a map in four directions: public functions and gradients."""

from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops import _extension
from mmadaptor.ops._gradients import (
    present,
    register_gradient,
    register_states_gradient,
)


def cross_selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan a map along rows and columns, forth and back, and add up.

    The four directions are rows, columns, rows reversed and columns reversed;
    everything is given and returned in image order. A direction's scan is
    :func:`mmadaptor.ops.selective_scan` with the pixels in its order; the
    kernel walks the map where it lies, so no copy in that order ever exists.
    Any strides are read; neighbouring channels should be neighbours in memory,
    else the map is copied once.

    Args:
        x: The map, `(B, H, W, D)`; float32, float64, float16 or bfloat16.
        delta: The step before bias and softplus, `(B, H, W, 4, D)`, x's dtype.
        A: The decay rates, `(4, D, N)`, normally negative; float32 (float64
            with float64 inputs), as are `D` and `delta_bias`.
        B: The input's coefficients, `(B, H, W, 4, N)`, x's dtype.
        C: The readout's coefficients, `(B, H, W, 4, N)`, x's dtype.
        D: The skip's weights, `(4, D)`. None: no skip.
        delta_bias: Added to delta, `(4, D)`. None: nothing is.
        delta_softplus: Whether softplus is applied to the step.
        return_states: Whether to return every state too, from the same walk;
            the sum's bits are those of a call without.

    Returns:
        The sum over the directions, `(B, H, W, D)` in x's dtype; with
        `return_states` the pair of it and of the states that
        :func:`cross_selective_scan_states` returns, differentiable like it.

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        VMamba (arXiv 2401.10166), SS2D.
    """
    _extension.require()
    y, states, _ = torch.ops.mmadaptor.cross_selective_scan(
        x, delta, A, B, C, D, delta_bias, delta_softplus, return_states
    )
    return (y, states) if return_states else y


def cross_selective_scan_states(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Every hidden state of the four scans over a map, in image order.

    Args:
        x: The map, `(B, H, W, D)`.
        delta: The step before bias and softplus, `(B, H, W, 4, D)`, x's dtype.
        A: The decay rates, `(4, D, N)`, float32 (float64 with float64 inputs).
        B: The input's coefficients, `(B, H, W, 4, N)`, x's dtype.
        delta_bias: Added to delta, `(4, D)`. None: nothing is.
        delta_softplus: Whether softplus is applied to the step.

    Returns:
        `(B, H, W, 4, D, N)` in float32 (float64 for float64 inputs).

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        VMamba (arXiv 2401.10166), SS2D; as an output of its own, ours.
    """
    _extension.require()
    states, _ = torch.ops.mmadaptor.cross_selective_scan_states(
        x, delta, A, B, delta_bias, delta_softplus
    )
    return states


def cross_readout(states: Tensor, C: Tensor) -> Tensor:
    """What any states of the four scans say: the sum over k of C_k . h_k.

    Args:
        states: `(B, H, W, 4, D, N)`, float32 or float64.
        C: The readout's coefficients, `(B, H, W, 4, N)`.

    Returns:
        `(B, H, W, D)` in C's dtype.

    Raises:
        ValueError: For a wrong shape; the message names the argument, what was
            expected and what came.

    Source:
        VMamba (arXiv 2401.10166), SS2D, for given states.
    """
    _extension.require()
    return torch.ops.mmadaptor.cross_readout(states, C)


def _scan_setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.delta_softplus, return_states = inputs
    ctx.set_materialize_grads(False)
    _, states, checkpoints = output
    ctx.mark_non_differentiable(
        *((checkpoints,) if return_states else (states, checkpoints))
    )
    ctx.save_for_backward(*tensors, checkpoints)


def _scan_backward(
    ctx: Any, grad_y: Tensor | None, grad_states: Tensor | None, _: None
) -> tuple:
    *tensors, checkpoints = ctx.saved_tensors
    if grad_y is None and grad_states is None:
        return (None,) * 9
    if grad_y is None:
        grad_y = torch.zeros_like(tensors[0])
    gradients = torch.ops.mmadaptor.cross_selective_scan_backward(
        grad_y, grad_states, *tensors, ctx.delta_softplus, checkpoints
    )
    return (*map(present, gradients, tensors), None, None)


register_states_gradient('cross_selective_scan_states')
register_gradient('cross_readout')
if _extension.PROBLEM is None:
    torch.library.register_autograd(
        'mmadaptor::cross_selective_scan', _scan_backward, setup_context=_scan_setup
    )
