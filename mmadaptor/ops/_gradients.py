# SPDX-License-Identifier: Apache-2.0
"""Gradients that several compiled ops share."""

from typing import Any

import torch
from torch import Tensor

from mmadaptor.ops import _extension


def present(gradient: Tensor, argument: Tensor | None) -> Tensor | None:
    """Return the gradient of an optional argument; None if it was omitted."""
    return None if argument is None else gradient


def _backward_op(name: str) -> Any:
    return getattr(torch.ops.mmadaptor, f'{name}_backward')


def register_gradient(name: str) -> None:
    """Register the gradient of an op with required tensors and one output.

    Args:
        name: The op; `NAME_backward(grad, *arguments)` returns the gradients.
    """
    if _extension.PROBLEM is not None:
        return

    def setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, grad: Tensor) -> tuple:
        return _backward_op(name)(grad, *ctx.saved_tensors)

    torch.library.register_autograd(f'mmadaptor::{name}', backward, setup_context=setup)


def register_states_gradient(name: str) -> None:
    """Register the gradient of an op that returns the states of a scan.

    Args:
        name: The op. It takes `(x, delta, A, B, delta_bias, delta_softplus)` and
            returns the states and its checkpoints. `NAME_backward` takes the
            gradient of the states, the tensors, `delta_softplus` and the
            checkpoints.
    """
    if _extension.PROBLEM is not None:
        return

    def setup(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.delta_softplus = inputs
        ctx.set_materialize_grads(False)
        checkpoints = output[1]
        ctx.mark_non_differentiable(checkpoints)
        ctx.save_for_backward(*tensors, checkpoints)

    def backward(ctx: Any, grad_states: Tensor | None, _: None) -> tuple:
        *tensors, checkpoints = ctx.saved_tensors
        if grad_states is None:
            return (None,) * 6
        gradients = _backward_op(name)(
            grad_states, *tensors, ctx.delta_softplus, checkpoints
        )
        return (*map(present, gradients, tensors), None)

    torch.library.register_autograd(f'mmadaptor::{name}', backward, setup_context=setup)
