# SPDX-License-Identifier: Apache-2.0
"""Fake kernels of the selective scan: argument checks and empty results."""

import torch
from torch import Tensor

from mmadaptor.ops._checks import Check, accumulate_dtype
from mmadaptor.ops._dispatch import register_fake

CHUNK = 64  # kChunk in csrc/scan_layout.h


def _groups(B: Tensor, C: Tensor | None) -> int:
    for t in (B, C):
        if t is not None and t.dim() == 4:
            return t.shape[1]
    return 1


def _check_coefficients(
    check: Check, name: str, t: Tensor, u: Tensor, states: int, groups: int
) -> None:
    batch, channels, length = u.shape
    check.dtype(name, t, u.dtype, 'the dtype of `u`')
    if t.dim() == 2:
        check.shape(name, t, (channels, states), '(channels, states)')
    elif t.dim() == 3:
        check.shape(name, t, (batch, states, length), '(batch, states, length)')
    elif t.dim() == 4:
        check.not_empty(name, t, (None, 'groups', None, None))
        check.shape(
            name, t, (batch, groups, states, length), '(batch, groups, states, length)'
        )
    else:
        check.rank(
            name,
            t,
            4,
            '(batch, groups, states, length), or 3 without groups, or 2 (channels, '
            'states)',
        )


def _check(
    op: str,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor | None = None,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
) -> Check:
    check = Check(op, u.device)
    wide, why = accumulate_dtype(u.dtype), "the scan's own dtype for this `u`"
    check.floating('u', u)
    check.dtype('u', u, u.dtype, 'its own dtype')
    check.rank('u', u, 3, '(batch, channels, length)')
    check.not_empty('u', u, (None, 'channels', 'steps in time'))
    channels = u.shape[1]
    check.dtype('delta', delta, u.dtype, 'the dtype of `u`')
    check.shape('delta', delta, u.shape, '(that of `u`)')
    check.dtype('A', A, wide, why)
    check.rank('A', A, 2, '(channels, states)')
    check.not_empty('A', A, (None, 'states'))
    check.shape('A', A, (channels, A.shape[1]), '(channels, states)')
    groups = _groups(B, C)
    _check_coefficients(check, 'B', B, u, A.shape[1], groups)
    if C is not None:
        _check_coefficients(check, 'C', C, u, A.shape[1], groups)
    if channels % groups != 0:
        check.refuse(
            f'the groups of `B` and `C` must divide the {channels} channels of `u`, '
            f'got {groups} groups'
        )
    varying = [t for t in (B, C) if t is not None and t.dim() > 2]
    if any((t.shape[1] if t.dim() == 4 else 1) != groups for t in varying):
        check.refuse(
            f'`B` and `C` must have the same groups, got shapes {list(B.shape)} and '
            f'{list(C.shape)}'
        )
    for name, t in (('D', D), ('delta_bias', delta_bias)):
        if t is not None:
            check.dtype(name, t, wide, why)
            check.shape(name, t, (channels,), '(channels)')
    if z is not None:
        check.dtype('z', z, u.dtype, 'the dtype of `u`')
        check.shape('z', z, u.shape, '(that of `u`)')
    return check


def _empty_checkpoints(u: Tensor, A: Tensor) -> Tensor:
    # (batch, chunks, states, channels), flattened to two dimensions: with a separate
    # dimension of chunks, torch.compile would check whether it is 1, and specialize.
    chunks = (u.shape[2] + CHUNK - 1) // CHUNK
    return A.new_empty(u.shape[0], chunks * A.shape[1] * u.shape[1])


def _check_checkpoints(check: Check, checkpoints: Tensor, u: Tensor, A: Tensor) -> None:
    expected = _empty_checkpoints(u, A)
    check.dtype('checkpoints', checkpoints, A.dtype, 'of the forward pass')
    check.shape(
        'checkpoints',
        checkpoints,
        expected.shape,
        '(batch, chunks x states x channels)',
    )


@register_fake('selective_scan')
def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the arguments; return empty y, last state and checkpoints."""
    _check('selective_scan', u, delta, A, B, C, D, z, delta_bias)
    last_state = A.new_empty(u.shape[0], u.shape[1], A.shape[1])
    return torch.empty_like(u), last_state, _empty_checkpoints(u, A)


@register_fake('selective_scan_backward')
def scan_backward(
    grad_y: Tensor,
    grad_last_state: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    checkpoints: Tensor,
) -> tuple[Tensor, ...]:
    """Check the arguments; return empty gradients."""
    check = _check('selective_scan_backward', u, delta, A, B, C, D, z, delta_bias)
    check.dtype('grad_y', grad_y, u.dtype, 'the dtype of `u`')
    check.shape('grad_y', grad_y, u.shape, '(that of `u`)')
    if grad_last_state is not None:
        check.dtype('grad_last_state', grad_last_state, A.dtype, 'that of `A`')
        check.shape(
            'grad_last_state',
            grad_last_state,
            (u.shape[0], u.shape[1], A.shape[1]),
            '(batch, channels, states)',
        )
    _check_checkpoints(check, checkpoints, u, A)
    return _empty_gradients(u, delta, A, B, C, D, z, delta_bias)


@register_fake('selective_scan_states')
def states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Check the arguments; return empty states and checkpoints."""
    _check('selective_scan_states', u, delta, A, B, delta_bias=delta_bias)
    batch, channels, length = u.shape
    count = A.shape[1]
    if u.stride(1) == 1 and u.stride(2) != 1:
        result = A.new_empty(batch, length, count, channels).transpose(1, 3)
    else:
        result = A.new_empty(batch, channels, count, length)
    return result, _empty_checkpoints(u, A)


@register_fake('selective_scan_states_backward')
def states_backward(
    grad_states: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    checkpoints: Tensor,
) -> tuple[Tensor, ...]:
    """Check the arguments; return empty gradients."""
    check = _check(
        'selective_scan_states_backward', u, delta, A, B, delta_bias=delta_bias
    )
    batch, channels, length = u.shape
    check.dtype('grad_states', grad_states, A.dtype, 'that of `A`')
    check.shape(
        'grad_states',
        grad_states,
        (batch, channels, A.shape[1], length),
        '(batch, channels, states, length)',
    )
    _check_checkpoints(check, checkpoints, u, A)
    grads = _empty_gradients(u, delta, A, B, None, None, None, delta_bias)
    return (*grads[:4], grads[7])


def _empty_gradients(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> tuple[Tensor, ...]:
    def contiguous(t: Tensor | None) -> Tensor:
        return u.new_empty(0) if t is None else t.new_empty(t.shape)

    return (
        torch.empty_like(u),
        torch.empty_like(delta),
        contiguous(A),
        contiguous(B),
        contiguous(C),
        contiguous(D),
        u.new_empty(0) if z is None else torch.empty_like(z),
        contiguous(delta_bias),
    )
