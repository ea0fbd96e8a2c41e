# SPDX-License-Identifier: Apache-2.0
"""Fake kernels of dilated_depthwise: argument checks and empty results."""

from torch import Tensor

from mmadaptor.ops._checks import Check, accumulate_dtype
from mmadaptor.ops._dispatch import register_fake

_MOST_DILATIONS = 16  # kMostDilations in csrc/dilated_depthwise_limits.h


def _check(op: str, y: Tensor, kernels: Tensor, dilations: list[int]) -> Check:
    check = Check(op, y.device)
    check.floating('y', y)
    check.dtype('y', y, y.dtype, 'its own dtype')
    check.rank('y', y, 4, '(batch, height, width, channels)')
    check.not_empty('y', y, (None, 'rows', 'columns', 'channels'))
    if not 1 <= len(dilations) <= _MOST_DILATIONS or any(d < 1 for d in dilations):
        check.refuse(
            f'`dilations` must be positive, and 1 to {_MOST_DILATIONS} of them, got '
            f'{list(dilations)}'
        )
    wide = accumulate_dtype(y.dtype)
    check.dtype('kernels', kernels, wide, 'as wide as the sums over `y`')
    check.shape(
        'kernels',
        kernels,
        (len(dilations), y.shape[3], 3, 3),
        '(dilations, channels of `y`, 3, 3)',
    )
    return check


@register_fake('dilated_depthwise')
def convolve(y: Tensor, kernels: Tensor, dilations: list[int]) -> Tensor:
    """Check the arguments; return an empty sum."""
    _check('dilated_depthwise', y, kernels, dilations)
    return y.new_empty(y.shape)


@register_fake('dilated_depthwise_backward')
def convolve_backward(
    grad: Tensor, y: Tensor, kernels: Tensor, dilations: list[int]
) -> tuple[Tensor, Tensor]:
    """Check the arguments; return empty gradients."""
    check = _check('dilated_depthwise_backward', y, kernels, dilations)
    check.dtype('grad', grad, y.dtype, 'the dtype of `y`')
    check.shape('grad', grad, y.shape, '(that of `y`)')
    return y.new_empty(y.shape), kernels.new_empty(kernels.shape)
