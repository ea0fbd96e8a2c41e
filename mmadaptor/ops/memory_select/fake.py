# SPDX-License-Identifier: Apache-2.0
"""Fake kernels of memory_select: argument checks and empty results."""

from torch import Tensor

from mmadaptor.ops._checks import Check
from mmadaptor.ops._dispatch import register_fake

_PLACES = '(batch, height, width, directions, groups, places'


def _check(op: str, states: Tensor, locations: Tensor, weights: Tensor) -> Check:
    check = Check(op, states.device)
    check.wide('states', states)
    check.dtype('states', states, states.dtype, 'its own dtype')
    check.rank(
        'states', states, 6, '(batch, height, width, directions, channels, states)'
    )
    check.not_empty(
        'states', states, (None, 'rows', 'columns', 'directions', 'channels', 'states')
    )
    check.dtype('weights', weights, states.dtype, 'the dtype of `states`')
    check.rank('weights', weights, 6, f'{_PLACES})')
    check.not_empty('weights', weights, (None, None, None, None, 'groups', 'places'))
    places = (*states.shape[:4], *weights.shape[4:])
    check.shape('weights', weights, places, f'{_PLACES})')
    channels, groups = states.shape[4], weights.shape[4]
    if channels % groups != 0:
        check.refuse(
            f'the groups of `weights` must divide the {channels} channels of '
            f'`states`, got {groups} groups'
        )
    check.dtype('locations', locations, states.dtype, 'the dtype of `states`')
    check.shape('locations', locations, (*places, 2), f'{_PLACES}, 2)')
    return check


@register_fake('memory_select')
def select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Check the arguments; return an empty memory."""
    _check('memory_select', states, locations, weights)
    return states.new_empty(states.shape)


@register_fake('memory_select_backward')
def select_backward(
    grad_memory: Tensor, states: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """Check the arguments; return empty gradients."""
    check = _check('memory_select_backward', states, locations, weights)
    check.dtype('grad_memory', grad_memory, states.dtype, 'the dtype of `states`')
    check.shape('grad_memory', grad_memory, states.shape, '(that of `states`)')
    return tuple(t.new_empty(t.shape) for t in (states, locations, weights))
