# SPDX-License-Identifier: Apache-2.0
"""The selective scan: public functions and their gradients."""

import functools
from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops._dispatch import lower, register_autocast
from mmadaptor.ops._gradients import (
    differentiable,
    present,
    register_autograd,
    register_second_derivative,
    register_states_gradient,
)

from . import fake, reference  # noqa: F401


# None is no tensor, which the op says.
def _is_half(t: Tensor | None) -> bool:
    return isinstance(t, Tensor) and t.dtype in [torch.float16, torch.bfloat16]


def _is_float32(t: Tensor | None) -> bool:
    return isinstance(t, Tensor) and t.dtype == torch.float32


def _widened(t: Tensor, low: torch.dtype) -> Tensor:
    """Cast to float32 from one dtype; the op refuses others."""
    if isinstance(t, Tensor) and t.dtype == low:
        return t.float()
    return t


@differentiable(reference.selective_scan)
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Compute the selective state-space scan.

    .. code-block:: text

        d_t = softplus(delta_t + delta_bias)    (softplus if delta_softplus)
        h_t = exp(d_t A) h_{t-1} + d_t B_t u_t  (h_0 = 0)
        y_t = sum_n C_{t,n} h_{t,n} + D u_t,    times silu(z_t) if z is given

    Shapes and meaning are those of `selective_scan_fn` of `mamba_ssm` for a real
    A. Arithmetic and states are float32 inside (float64 for float64 inputs). Inputs
    may have any strides. Forward and backward are deterministic for any number of
    threads, and every input has a gradient.

    Args:
        u: Input `(B, D, L)`; float32, float64, float16 or bfloat16.
        delta: Step size before bias and softplus, `(B, D, L)`, dtype of u.
        A: Decay rates `(D, N)`, normally negative. `A`, `D` and `delta_bias`
            are float32, or float64 with float64 inputs.
        B: Input coefficients, dtype of u or float32: `(D, N)` if constant in time,
            `(B, N, L)`, or `(B, G, N, L)` with G groups of D/G channels. If B or C is
            float32 beside a half-precision u, the maps are copied to float32.
        C: Output coefficients, in any of the forms of B.
        D: Weights of the skip connection, `(D,)`. Default: none.
        z: Gate `(B, D, L)`, dtype of u. Default: none.
        delta_bias: Bias of the step size, `(D,)`. Default: none.
        delta_softplus: Whether to apply softplus to the step size.
        return_last_state: Whether to return the last state as well.

    Returns:
        y `(B, D, L)` in the dtype of u. With `return_last_state` the pair of y and
        the state after the last step, `(B, D, N)` in float32 (float64 for float64
        inputs), also differentiable.

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import selective_scan
        >>> u = delta = torch.ones(1, 1, 3)
        >>> A = -torch.tensor([[2.0]]).log()  # the state halves at each step
        >>> B = C = torch.ones(1, 1, 3)
        >>> selective_scan(u, delta, A, B, C)
        tensor([[[1.0000, 1.5000, 1.7500]]])

    Source:
        Mamba (arXiv 2312.00752), Algorithm 2.
    """
    if _is_half(u) and (_is_float32(B) or _is_float32(C)):
        # The op takes one dtype. Its arithmetic is float32 in any case.
        gate = None if z is None else _widened(z, u.dtype)
        y, last_state, _ = torch.ops.mmadaptor.selective_scan(
            u.float(),
            _widened(delta, u.dtype),
            A,
            _widened(B, u.dtype),
            _widened(C, u.dtype),
            D,
            gate,
            delta_bias,
            delta_softplus,
        )
        y = y.to(u.dtype)
    else:
        y, last_state, _ = torch.ops.mmadaptor.selective_scan(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus
        )
    # Two returns: TorchScript refuses a conditional expression of two types.
    if return_last_state:
        return y, last_state
    return y


@differentiable(reference.selective_scan_states)
def selective_scan_states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Compute every hidden state of the selective scan.

    The arguments are those of :func:`selective_scan`, and each has a gradient. The
    states have N times as many elements as u, in float32 or float64.

    Args:
        u: Input `(B, D, L)`.
        delta: Step size before bias and softplus, `(B, D, L)`, dtype of u.
        A: Decay rates `(D, N)`, float32 (float64 with float64 inputs).
        B: `(D, N)`, `(B, N, L)` or `(B, G, N, L)`, dtype of u or float32.
        delta_bias: Bias of the step size, `(D,)`. Default: none.
        delta_softplus: Whether softplus is applied to the step.

    Returns:
        h_1 to h_L, `(B, D, N, L)` in float32 (float64 for float64 inputs). If the
        channels of u are contiguous in memory, so are those of the states.

    Raises:
        ValueError: An argument has a wrong shape, dtype or device; the message
            names it, with expected and got.
        RuntimeError: The compiled ops are not built.

    Example:
        >>> import torch
        >>> from mmadaptor.ops import selective_scan_states
        >>> u = delta = torch.ones(1, 1, 3)
        >>> A = -torch.tensor([[2.0]]).log()  # the state halves at each step
        >>> selective_scan_states(u, delta, A, B=torch.ones(1, 1, 3)).flatten()
        tensor([1.0000, 1.5000, 1.7500])

    Source:
        Mamba (arXiv 2312.00752), Algorithm 2. States as an output: our choice.
    """
    if _is_half(u) and _is_float32(B):
        u, delta = u.float(), _widened(delta, u.dtype)
    states, _ = torch.ops.mmadaptor.selective_scan_states(
        u, delta, A, B, delta_bias, delta_softplus
    )
    return states


def _scan_setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.delta_softplus = inputs
    ctx.set_materialize_grads(False)
    checkpoints = output[2]
    ctx.mark_non_differentiable(checkpoints)
    ctx.save_for_backward(*tensors, checkpoints)


def _scan_backward(
    ctx: Any, grad_y: Tensor | None, grad_last_state: Tensor | None, _: None
) -> tuple:
    *tensors, checkpoints = ctx.saved_tensors
    if grad_y is None and grad_last_state is None:
        return (None,) * 9
    if grad_y is None:
        grad_y = torch.zeros_like(tensors[0])
    gradients = torch.ops.mmadaptor.selective_scan_backward(
        grad_y, grad_last_state, *tensors, ctx.delta_softplus, checkpoints
    )
    return (*map(present, gradients, tensors), None)


def _lower_scan(
    dtype: torch.dtype,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    *others: Any,
) -> tuple:
    u, delta, B, C, z = lower(dtype, u, delta, B, C, z)
    return u, delta, A, B, C, D, z, *others


def _lower_states(
    dtype: torch.dtype, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, *others: Any
) -> tuple:
    u, delta, B = lower(dtype, u, delta, B)
    return u, delta, A, B, *others


register_autocast('selective_scan', _lower_scan)
register_autocast('selective_scan_states', _lower_states)
register_states_gradient('selective_scan_states', reference.selective_scan_states)
register_autograd('selective_scan', _scan_backward, _scan_setup)
register_second_derivative(
    'selective_scan',
    functools.partial(reference.selective_scan, return_last_state=True),
    outputs=2,
    checkpoints=1,
)
