# SPDX-License-Identifier: Apache-2.0
"""Fake kernels of the 2-D scan and its readout: argument checks and empty results."""

from torch import Tensor

from mmadaptor.ops._checks import Check, accumulate_dtype
from mmadaptor.ops._dispatch import register_fake
from mmadaptor.ops.selective_scan.fake import CHUNK

_PIXELS = '(batch, height, width, channels)'
_STATES = '(batch, height, width, 4, channels, states)'


def _check(
    op: str,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
) -> Check:
    check = Check(op, x.device)
    wide, why = accumulate_dtype(x.dtype), "the scan's own dtype for this `x`"
    check.floating('x', x)
    check.dtype('x', x, x.dtype, 'its own dtype')
    check.rank('x', x, 4, _PIXELS)
    check.not_empty('x', x, (None, 'rows', 'columns', 'channels'))
    channels, directed = x.shape[3], (*x.shape[:3], 4)
    check.dtype('delta', delta, x.dtype, 'the dtype of `x`')
    check.shape(
        'delta', delta, (*directed, channels), '(batch, height, width, 4, channels)'
    )
    check.dtype('A', A, wide, why)
    check.rank('A', A, 3, '(4, channels, states)')
    check.not_empty('A', A, (None, None, 'states'))
    check.shape('A', A, (4, channels, A.shape[2]), '(4, channels, states)')
    for name, t in (('B', B), ('C', C)):
        if t is not None:
            check.dtype(name, t, x.dtype, 'the dtype of `x`')
            check.shape(
                name, t, (*directed, A.shape[2]), '(batch, height, width, 4, states)'
            )
    for name, t in (('D', D), ('delta_bias', delta_bias)):
        if t is not None:
            check.dtype(name, t, wide, why)
            check.shape(name, t, (4, channels), '(4, channels)')
    return check


def _check_gradients(
    check: Check,
    x: Tensor,
    A: Tensor,
    grad_y: Tensor | None,
    grad_states: Tensor | None,
    checkpoints: Tensor,
) -> None:
    if grad_y is not None:
        check.dtype('grad_y', grad_y, x.dtype, 'the dtype of `x`')
        check.shape('grad_y', grad_y, x.shape, '(that of `x`)')
    if grad_states is not None:
        check.dtype('grad_states', grad_states, A.dtype, 'that of `A`')
        check.shape('grad_states', grad_states, _empty_states(x, A).shape, _STATES)
    check.dtype('checkpoints', checkpoints, A.dtype, 'of the forward pass')
    check.shape(
        'checkpoints',
        checkpoints,
        _empty_checkpoints(x, A).shape,
        '(batch, chunks x states x 4 channels)',
    )


def _empty_states(x: Tensor, A: Tensor) -> Tensor:
    return A.new_empty(*x.shape[:3], 4, x.shape[3], A.shape[2])


def _empty_checkpoints(x: Tensor, A: Tensor) -> Tensor:
    # (batch, chunks, states, 4 channels), flattened to two dimensions: with a separate
    # dimension of chunks, torch.compile would check whether it is 1, and specialize.
    chunks = (x.shape[1] * x.shape[2] + CHUNK - 1) // CHUNK
    return A.new_empty(x.shape[0], chunks * A.shape[2] * x.shape[3] * 4)


def _empty_gradients(*arguments: Tensor | None) -> tuple[Tensor, ...]:
    x = arguments[0]
    return tuple(
        x.new_empty(0) if t is None else t.new_empty(t.shape) for t in arguments
    )


@register_fake('cross_selective_scan')
def scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    return_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the arguments; return empty y, states and checkpoints."""
    _check('cross_selective_scan', x, delta, A, B, C, D, delta_bias)
    states = _empty_states(x, A) if return_states else A.new_empty(0)
    return x.new_empty(x.shape), states, _empty_checkpoints(x, A)


@register_fake('cross_selective_scan_backward')
def scan_backward(
    grad_y: Tensor,
    grad_states: Tensor | None,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    checkpoints: Tensor,
) -> tuple[Tensor, ...]:
    """Check the arguments; return empty gradients."""
    check = _check('cross_selective_scan_backward', x, delta, A, B, C, D, delta_bias)
    _check_gradients(check, x, A, grad_y, grad_states, checkpoints)
    return _empty_gradients(x, delta, A, B, C, D, delta_bias)


@register_fake('cross_selective_scan_states')
def states(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Check the arguments; return empty states and checkpoints."""
    _check('cross_selective_scan_states', x, delta, A, B, delta_bias=delta_bias)
    return _empty_states(x, A), _empty_checkpoints(x, A)


@register_fake('cross_selective_scan_states_backward')
def states_backward(
    grad_states: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    checkpoints: Tensor,
) -> tuple[Tensor, ...]:
    """Check the arguments; return empty gradients."""
    check = _check(
        'cross_selective_scan_states_backward', x, delta, A, B, delta_bias=delta_bias
    )
    _check_gradients(check, x, A, None, grad_states, checkpoints)
    return _empty_gradients(x, delta, A, B, delta_bias)


def _check_readout(op: str, states: Tensor, C: Tensor) -> Check:
    check = Check(op, states.device)
    check.rank('states', states, 6, _STATES)
    check.not_empty(
        'states', states, (None, 'rows', 'columns', 'directions', 'channels', 'states')
    )
    check.wide('states', states)
    check.dtype('states', states, states.dtype, 'its own dtype')
    check.floating('C', C)
    check.dtype('C', C, C.dtype, 'its own dtype')
    check.shape(
        'C',
        C,
        (*states.shape[:4], states.shape[5]),
        '(batch, height, width, 4, states)',
    )
    return check


def _empty_readout(states: Tensor, C: Tensor) -> Tensor:
    return C.new_empty(*states.shape[:3], states.shape[4])


@register_fake('cross_readout')
def readout(states: Tensor, C: Tensor) -> Tensor:
    """Check the arguments; return an empty y."""
    _check_readout('cross_readout', states, C)
    return _empty_readout(states, C)


@register_fake('cross_readout_backward')
def readout_backward(
    grad_y: Tensor, states: Tensor, C: Tensor
) -> tuple[Tensor, Tensor]:
    """Check the arguments; return empty gradients."""
    check = _check_readout('cross_readout_backward', states, C)
    check.dtype('grad_y', grad_y, C.dtype, 'the dtype of `C`')
    check.shape('grad_y', grad_y, _empty_readout(states, C).shape, _PIXELS)
    return states.new_empty(states.shape), C.new_empty(C.shape)
