# SPDX-License-Identifier: Apache-2.0
"""The selective scan: public functions and their gradients."""

from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops import _extension
from mmadaptor.ops._gradients import present, register_states_gradient


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
    r"""The selective state-space scan, compiled, with every gradient.

    .. code-block:: text

        d_t = softplus(delta_t + delta_bias)    (softplus if delta_softplus)
        h_t = exp(d_t A) h_{t-1} + d_t B_t u_t  (h_0 = 0)
        y_t = sum_n C_{t,n} h_{t,n} + D u_t,    times silu(z_t) if z is given

    A call has the shapes and the meaning of `mamba_ssm`'s
    `selective_scan_fn` for a real A. Inside, arithmetic and states are float32
    (float64 for float64 inputs); any strides are read as they are. Forward and
    backward are deterministic, whatever the number of threads.

    Args:
        u: The input, `(B, D, L)`; float32, float64, float16 or bfloat16.
        delta: The step before bias and softplus, `(B, D, L)`, u's dtype.
        A: The decay rates, `(D, N)`, normally negative; float32, or float64
            with float64 inputs, as are `D` and `delta_bias`.
        B: The input's coefficients, u's dtype: `(D, N)` if constant in time,
            `(B, N, L)`, or `(B, G, N, L)` with G groups of D/G channels.
        C: The readout's coefficients, shaped as any of B's forms.
        D: The skip's weights, `(D,)`. None: no skip.
        z: The gate, `(B, D, L)`, u's dtype. None: no gate.
        delta_bias: Added to delta, `(D,)`. None: nothing is.
        delta_softplus: Whether softplus is applied to the step.
        return_last_state: Whether to return the last state too.

    Returns:
        y, `(B, D, L)` in u's dtype; with `return_last_state` the pair of y and
        the state after the last step, `(B, D, N)` in float32 (float64 for
        float64 inputs), differentiable like y.

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        Mamba (arXiv 2312.00752), Algorithm 2.
    """
    _extension.require()
    y, last_state, _ = torch.ops.mmadaptor.selective_scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus
    )
    return (y, last_state) if return_last_state else y


def selective_scan_states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Every hidden state of the selective scan, with every gradient.

    The arguments mean what they mean for :func:`selective_scan`. The states
    take N times the memory of u; ask for them only where each is needed.

    Args:
        u: The input, `(B, D, L)`.
        delta: The step before bias and softplus, `(B, D, L)`, u's dtype.
        A: The decay rates, `(D, N)`, float32 (float64 with float64 inputs).
        B: `(D, N)`, `(B, N, L)` or `(B, G, N, L)`, u's dtype.
        delta_bias: Added to delta, `(D,)`. None: nothing is.
        delta_softplus: Whether softplus is applied to the step.

    Returns:
        h_1 to h_L, `(B, D, N, L)` in float32 (float64 for float64 inputs). If
        u's channels are neighbours in memory, so are those of the states.

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        Mamba (arXiv 2312.00752), Algorithm 2; as an output of its own, ours.
    """
    _extension.require()
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


register_states_gradient('selective_scan_states')
if _extension.PROBLEM is None:
    torch.library.register_autograd(
        'mmadaptor::selective_scan', _scan_backward, setup_context=_scan_setup
    )
