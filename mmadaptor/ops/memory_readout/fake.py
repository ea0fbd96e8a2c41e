# SPDX-License-Identifier: Apache-2.0
"""Fake kernels of memory_readout: argument checks and empty results."""

from torch import Tensor

from mmadaptor.ops._checks import Check
from mmadaptor.ops._dispatch import register_fake


def _check(
    op: str,
    values: Tensor,
    predicted: Tensor,
    granularities: list[float],
    coefficients: Tensor,
) -> Check:
    check = Check(op, values.device)
    check.wide('values', values)
    check.dtype('values', values, values.dtype, 'its own dtype')
    check.rank('values', values, 5, '(batch, height, width, directions, channels)')
    check.not_empty(
        'values', values, (None, 'rows', 'columns', 'directions', 'channels')
    )
    groups, channels = len(granularities), values.shape[4]
    if groups == 0:
        check.refuse('`granularities` must be one number at least, got none')
    if channels % groups != 0:
        check.refuse(
            f'the {groups} `granularities`, one a group, must divide the {channels} '
            'channels of `values`'
        )
    meaning = '(batch, height, width, directions, 3 x groups x places)'
    check.dtype('predicted', predicted, values.dtype, 'the dtype of `values`')
    check.rank('predicted', predicted, 5, meaning)
    numbers = predicted.shape[4]
    if numbers == 0 or numbers % (3 * groups) != 0:
        check.refuse(
            '`predicted` must have three numbers for each place of the '
            f'{groups} groups, got {numbers}'
        )
    check.shape('predicted', predicted, (*values.shape[:4], numbers), meaning)
    check.dtype('coefficients', coefficients, values.dtype, 'the dtype of `values`')
    check.shape(
        'coefficients',
        coefficients,
        values.shape[:4],
        '(batch, height, width, directions)',
    )
    return check


def _empty_readout(values: Tensor) -> Tensor:
    return values.new_empty(*values.shape[:3], values.shape[4])


@register_fake('memory_readout')
def readout(
    values: Tensor, predicted: Tensor, granularities: list[float], coefficients: Tensor
) -> Tensor:
    """Check the arguments; return an empty y."""
    _check('memory_readout', values, predicted, granularities, coefficients)
    return _empty_readout(values)


@register_fake('memory_readout_backward')
def readout_backward(
    grad_y: Tensor,
    values: Tensor,
    predicted: Tensor,
    granularities: list[float],
    coefficients: Tensor,
) -> tuple[Tensor, ...]:
    """Check the arguments; return empty gradients."""
    check = _check(
        'memory_readout_backward', values, predicted, granularities, coefficients
    )
    check.dtype('grad_y', grad_y, values.dtype, 'the dtype of `values`')
    check.shape(
        'grad_y',
        grad_y,
        _empty_readout(values).shape,
        '(batch, height, width, channels)',
    )
    return tuple(t.new_empty(t.shape) for t in (values, predicted, coefficients))
