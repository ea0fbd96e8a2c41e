# SPDX-License-Identifier: Apache-2.0
"""The scan of a map in four directions: public functions and gradients."""

import functools
from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops._dispatch import lower, register_autocast
from mmadaptor.ops._gradients import (
    differentiable,
    present,
    register_autograd,
    register_gradient,
    register_second_derivative,
    register_states_gradient,
)

from . import fake, reference  # noqa: F401


@differentiable(reference.cross_selective_scan)
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
    """Scan a map along rows and columns in both directions, and sum the results.

    The four directions are rows, columns, rows reversed and columns reversed. All
    inputs and outputs are in image order. Each direction is
    :func:`mmadaptor.ops.selective_scan` over the pixels in its order. The kernel
    reads the map in place, so no copy in that order is made. Inputs may have any
    strides; if neighboring channels are not contiguous in memory, the map is copied
    once.

    Args:
        x: Map `(B, H, W, D)`; float32, float64, float16 or bfloat16.
        delta: Step size before bias and softplus, `(B, H, W, 4, D)`, dtype of x.
        A: Decay rates `(4, D, N)`, normally negative. `A`, `D` and `delta_bias`
            are float32, or float64 with float64 inputs.
        B: Input coefficients `(B, H, W, 4, N)`, dtype of x.
        C: Output coefficients `(B, H, W, 4, N)`, dtype of x.
        D: Weights of the skip connection, `(4, D)`. Default: none.
        delta_bias: Bias of the step size, `(4, D)`. Default: none.
        delta_softplus: Whether to apply softplus to the step size.
        return_states: Whether to return every state as well, from the same pass.
            The sum is bit for bit that of a call without.

    Returns:
        The sum over the directions, `(B, H, W, D)` in the dtype of x. With
        `return_states` the pair of the sum and the states as
        :func:`cross_selective_scan_states` returns them, also differentiable.

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import cross_selective_scan
        >>> x, delta = torch.ones(1, 1, 3, 1), torch.ones(1, 1, 3, 4, 1)
        >>> A = -torch.full((4, 1, 1), 2.0).log()  # states halve at each step
        >>> B = C = torch.ones(1, 1, 3, 4, 1)
        >>> cross_selective_scan(x, delta, A, B, C).flatten()
        tensor([5.5000, 6.0000, 5.5000])

    Source:
        VMamba (arXiv 2401.10166), SS2D.
    """
    y, states, _ = torch.ops.mmadaptor.cross_selective_scan(
        x, delta, A, B, C, D, delta_bias, delta_softplus, return_states
    )
    # Two returns: TorchScript refuses a conditional expression of two types.
    if return_states:
        return y, states
    return y


@differentiable(reference.cross_selective_scan_states)
def cross_selective_scan_states(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Compute every hidden state of the four scans of a map, in image order.

    Args:
        x: Map `(B, H, W, D)`.
        delta: Step size before bias and softplus, `(B, H, W, 4, D)`, dtype of x.
        A: Decay rates `(4, D, N)`, float32 (float64 with float64 inputs).
        B: Input coefficients `(B, H, W, 4, N)`, dtype of x.
        delta_bias: Bias of the step size, `(4, D)`. Default: none.
        delta_softplus: Whether to apply softplus to the step size.

    Returns:
        `(B, H, W, 4, D, N)` in float32 (float64 for float64 inputs).

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import cross_selective_scan_states
        >>> x, delta = torch.ones(1, 1, 3, 1), torch.ones(1, 1, 3, 4, 1)
        >>> A = -torch.full((4, 1, 1), 2.0).log()  # states halve at each step
        >>> B = torch.ones(1, 1, 3, 4, 1)
        >>> states = cross_selective_scan_states(x, delta, A, B)
        >>> states[0, 0, :, 0].flatten()  # along the row
        tensor([1.0000, 1.5000, 1.7500])

    Source:
        VMamba (arXiv 2401.10166), SS2D. States as an output: our choice.
    """
    states, _ = torch.ops.mmadaptor.cross_selective_scan_states(
        x, delta, A, B, delta_bias, delta_softplus
    )
    return states


@differentiable(reference.cross_readout)
def cross_readout(states: Tensor, C: Tensor) -> Tensor:
    """Compute the output of given states: the sum over k of C_k . h_k.

    Args:
        states: `(B, H, W, 4, D, N)`, float32 or float64.
        C: Output coefficients `(B, H, W, 4, N)`.

    Returns:
        `(B, H, W, D)` in the dtype of C.

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import cross_readout
        >>> states = torch.ones(1, 2, 2, 4, 8, 16)
        >>> C = torch.ones(1, 2, 2, 4, 16)
        >>> y = cross_readout(states, C)
        >>> y.shape, y[0, 0, 0, 0].item()  # 4 directions of 16 states
        (torch.Size([1, 2, 2, 8]), 64.0)

    Source:
        VMamba (arXiv 2401.10166), SS2D, for given states.
    """
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


def _lower_scan(
    dtype: torch.dtype,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *others: Any,
) -> tuple:
    x, delta, B, C = lower(dtype, x, delta, B, C)
    return x, delta, A, B, C, *others


def _lower_states(
    dtype: torch.dtype, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, *others: Any
) -> tuple:
    x, delta, B = lower(dtype, x, delta, B)
    return x, delta, A, B, *others


# The readout has no autocast rule: it accepts the states in their own dtype, and C in
# any.
register_autocast('cross_selective_scan', _lower_scan)
register_autocast('cross_selective_scan_states', _lower_states)
register_states_gradient(
    'cross_selective_scan_states', reference.cross_selective_scan_states
)
register_gradient('cross_readout', reference.cross_readout)
register_autograd('cross_selective_scan', _scan_backward, _scan_setup)
register_second_derivative(
    'cross_selective_scan',
    functools.partial(reference.cross_selective_scan, return_states=True),
    outputs=2,
    checkpoints=1,
)
