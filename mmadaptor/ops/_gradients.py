# SPDX-License-Identifier: Apache-2.0
"""Derivatives that several compiled ops share.

The compiled ops have first derivatives in reverse mode. Second derivatives and
forward-mode derivatives are those of each op's definition, `reference.py`, which is
slow.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mmadaptor.ops import _extension
from mmadaptor.ops._dispatch import (
    LIBRARY,
    as_autocast,
    device_of,
    find_problem,
    full_precision,
    raise_out_of_memory,
)

NO_ONNX = (
    'torch.onnx.export has no operators for the compiled ops of mmadaptor; '
    'mmadaptor.export.onnx.export_onnx and tools/export.py have (docs/export.md).'
)


def differentiable(definition: Callable) -> Callable:
    """Return a decorator for the public function of an op.

    The function raises if the ops are not built or are exported to ONNX, and a
    ValueError that names a wrong argument. In forward mode (`torch.func.jvp`,
    `torch.autograd.forward_ad`) it computes the definition.

    Args:
        definition: The definition, with the arguments of the function.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            _extension.require()
            if 'torch.onnx' in sys.modules and torch.onnx.is_in_onnx_export():
                raise RuntimeError(NO_ONNX)
            # The level and not the tangents: a functorch transform can hide them.
            if forward_ad._current_level >= 0:
                # The definition does not check its arguments.
                if problem := find_problem(function, args, kwargs):
                    raise ValueError(problem)
                args, kwargs = as_autocast(function, args, kwargs)
                return _in_full_precision(definition, *args, **kwargs)
            try:
                return function(*args, **kwargs)
            except RuntimeError as error:
                raise_out_of_memory(error, *args, *kwargs.values())
                problem = find_problem(function, args, kwargs)
                if problem is None:
                    raise
            raise ValueError(problem)

        # torch.jit.script compiles the source of a function, not its decorator.
        call.__prepare_scriptable__ = lambda: function
        return call

    return decorate


def _in_full_precision(definition: Callable, *args: Any, **kwargs: Any) -> Any:
    """Compute a definition without autocast, which would change its operations."""
    with full_precision(device_of(args, kwargs)):
        return definition(*args, **kwargs)


def present(gradient: Tensor, argument: Tensor | None) -> Tensor | None:
    """Return the gradient of an optional argument; None if it was omitted."""
    return None if argument is None else gradient


def register_autograd(name: str, backward: Callable, setup: Callable) -> None:
    """Register the gradient of an op; see torch.library.register_autograd."""
    if _extension.PROBLEM is None:
        torch.library.register_autograd(
            f'mmadaptor::{name}', backward, setup_context=setup, lib=LIBRARY
        )


def _backward_op(name: str) -> Any:
    return getattr(torch.ops.mmadaptor, f'{name}_backward')


def register_gradient(name: str, definition: Callable) -> None:
    """Register the gradients of an op with required tensors and one output.

    Args:
        name: The op; `NAME_backward(grad, *arguments)` returns the gradients.
        definition: The definition of the op, for second derivatives.
    """

    def setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.constants = _save(ctx, inputs)

    def backward(ctx: Any, grad: Tensor) -> tuple:
        inputs = _saved(ctx)
        gradients = iter(_backward_op(name)(grad, *inputs))
        return tuple(next(gradients) if isinstance(x, Tensor) else None for x in inputs)

    register_autograd(name, backward, setup)
    register_second_derivative(name, definition)


def register_states_gradient(name: str, definition: Callable) -> None:
    """Register the gradients of an op that returns the states of a scan.

    Args:
        name: The op. It takes `(x, delta, A, B, delta_bias, delta_softplus)` and
            returns the states and its checkpoints. `NAME_backward` takes the
            gradient of the states, the tensors, `delta_softplus` and the
            checkpoints.
        definition: The definition of the op, for second derivatives.
    """

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

    register_autograd(name, backward, setup)
    register_second_derivative(name, definition, checkpoints=1)


def _save(ctx: Any, inputs: tuple) -> list:
    """Save the tensors of some inputs, and return the others in their places."""
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs))
    return [None if isinstance(x, Tensor) else x for x in inputs]


def _saved(ctx: Any) -> list:
    return [
        constant if tensor is None else tensor
        for tensor, constant in zip(ctx.saved_tensors, ctx.constants, strict=True)
    ]


def register_second_derivative(
    name: str, definition: Callable, outputs: int = 1, checkpoints: int = 0
) -> None:
    """Register the gradient of `NAME_backward`, by the definition of the op.

    It is differentiable itself, so that derivatives of any order are right.

    Args:
        name: The op. `NAME_backward` takes the gradients of the outputs (each may be
            None), the arguments of the definition, and the checkpoints.
        definition: The definition of the op, which returns the outputs.
        outputs: Number of outputs.
        checkpoints: Number of checkpoints, which are functions of the arguments.
    """

    def setup(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.set_materialize_grads(False)
        ctx.constants = _save(ctx, inputs[: len(inputs) - checkpoints])

    def backward(ctx: Any, *weights: Tensor | None) -> tuple:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            inputs = [_differentiable_view(x) for x in _saved(ctx)]
            arguments = inputs[outputs:]
            results = _in_full_precision(definition, *arguments)
            results = results if isinstance(results, tuple) else (results,)
            slots = [x for x in arguments if x is None or isinstance(x, Tensor)]
            gradients = _gradients(
                zip(results, inputs[:outputs], strict=True),
                [x for x, w in zip(slots, weights, strict=True) if w is not None],
                create_graph=True,
            )
            weights = [w for w in weights if w is not None]
            needed = ctx.needs_input_grad[: len(inputs)]
            second = _gradients(
                zip(gradients, weights, strict=True),
                [x if n else None for x, n in zip(inputs, needed, strict=True)],
                create_graph=again,
            )
        return (*second, *[None] * checkpoints)

    register_autograd(f'{name}_backward', backward, setup)


def _differentiable_view(x: Any) -> Any:
    """Return a tensor to differentiate by, apart from its other uses in the graph."""
    if not isinstance(x, Tensor):
        return x
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def _gradients(
    weighted: Iterable[tuple[Tensor | None, Tensor | None]],
    inputs: Sequence[Tensor | None],
    create_graph: bool,
) -> list[Tensor | None]:
    """Differentiate a weighted sum of outputs; None where there is nothing to do."""
    weighted = [
        (output, weight)
        for output, weight in weighted
        if output is not None and weight is not None
    ]
    present = [x for x in inputs if x is not None]
    if not weighted or not present:
        return [None] * len(inputs)
    outputs, weights = zip(*weighted, strict=True)
    found = iter(
        torch.autograd.grad(
            outputs, present, weights, create_graph=create_graph, allow_unused=True
        )
    )
    return [None if x is None else next(found) for x in inputs]
