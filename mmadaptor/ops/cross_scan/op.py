"""The scan over a map in four directions: public functions.

So far a composition of the compiled 1-D scan and torch's own ops.
"""

import torch
from torch import Tensor

from mmadaptor.ops._checks import check_rank, check_shape
from mmadaptor.ops.selective_scan import selective_scan, selective_scan_states

DIRECTIONS = 4
"""Rows, columns, rows reversed, columns reversed."""


def _scan_order(maps: Tensor) -> Tensor:
    """`(B, H, W, 4, F)` in image order to `(B, L, 4, F)`, each direction's."""
    rows, columns, rows_back, columns_back = maps.unbind(3)
    return torch.stack([
        rows.flatten(1, 2),
        columns.transpose(1, 2).flatten(1, 2),
        rows_back.flatten(1, 2).flip(1),
        columns_back.transpose(1, 2).flatten(1, 2).flip(1)
    ], dim=2)


def _image_order(sequences: Tensor, height: int, width: int) -> Tensor:
    """`(B, L, 4, F)`, each direction's order, to `(B, H, W, 4, F)`."""
    rows, columns, rows_back, columns_back = sequences.unbind(2)
    by_row, by_column = (height, width), (width, height)
    return torch.stack([
        rows.unflatten(1, by_row),
        columns.unflatten(1, by_column).transpose(1, 2),
        rows_back.flip(1).unflatten(1, by_row),
        columns_back.flip(1).unflatten(1, by_column).transpose(1, 2)
    ], dim=3)


def _check(op: str, x: Tensor, delta: Tensor, A: Tensor,
           coefficients: dict[str, Tensor],
           parameters: dict[str, Tensor | None]) -> None:
    """Raise for a wrong shape; dtypes and devices the 1-D scan checks."""
    check_rank(op, 'x', x, 4, '(batch, height, width, channels)')
    *pixels, channels = x.shape
    check_shape(op, 'delta', delta, (*pixels, DIRECTIONS, channels),
                '(batch, height, width, 4, channels)')
    check_rank(op, 'A', A, 3, '(4, channels, states)')
    states = A.shape[2]
    check_shape(op, 'A', A, (DIRECTIONS, channels, states),
                '(4, channels, states)')
    for name, tensor in coefficients.items():
        check_shape(op, name, tensor, (*pixels, DIRECTIONS, states),
                    '(batch, height, width, 4, states)')
    for name, tensor in parameters.items():
        if tensor is not None:
            check_shape(op, name, tensor, (DIRECTIONS, channels),
                        '(4, channels)')


def _flat(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.flatten(0, 1)


def _sequences(maps: Tensor) -> Tensor:
    """`(B, H, W, 4, D)` to the 1-D scan's `(B, 4 D, L)`, channels last."""
    return _scan_order(maps).flatten(2).transpose(1, 2)


def _copies(x: Tensor) -> Tensor:
    """`(B, H, W, D)` to `(B, H, W, 4, D)`."""
    return x.unsqueeze(3).expand(-1, -1, -1, DIRECTIONS, -1)


def _coefficients(maps: Tensor) -> Tensor:
    """`(B, H, W, 4, N)` to the 1-D scan's `(B, 4, N, L)`."""
    return _scan_order(maps).permute(0, 2, 3, 1)


def cross_selective_scan(x: Tensor,
                         delta: Tensor,
                         A: Tensor,
                         B: Tensor,
                         C: Tensor,
                         D: Tensor | None = None,
                         delta_bias: Tensor | None = None,
                         delta_softplus: bool = False) -> Tensor:
    """Scan a map along rows and columns, forth and back, and add up.

    The four directions are rows, columns, rows reversed and columns reversed;
    everything is given and returned in image order. A direction's scan is
    :func:`mmadaptor.ops.selective_scan` with the pixels in its order.

    Args:
        x: The map, `(B, H, W, D)`; float32, float64, float16 or bfloat16.
        delta: The step before bias and softplus, `(B, H, W, 4, D)`, x's dtype.
        A: The decay rates, `(4, D, N)`, normally negative; float32 (float64
            with float64 inputs), as are `D` and `delta_bias`.
        B: The input's coefficients, `(B, H, W, 4, N)`, x's dtype.
        C: The readout's coefficients, `(B, H, W, 4, N)`, x's dtype.
        D: The skip's weights, `(4, D)`. None: no skip.
        delta_bias: Added to delta, `(4, D)`. None: nothing is.
        delta_softplus: Whether softplus is applied to the step.

    Returns:
        The sum over the directions, `(B, H, W, D)` in x's dtype.

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        VMamba (arXiv 2401.10166), SS2D.
    """
    _check('cross_selective_scan', x, delta, A, {'B': B, 'C': C},
           {'D': D, 'delta_bias': delta_bias})
    height, width = x.shape[1:3]
    y = selective_scan(
        _sequences(_copies(x)), _sequences(delta), A.flatten(0, 1),
        _coefficients(B), _coefficients(C), _flat(D),
        delta_bias=_flat(delta_bias), delta_softplus=delta_softplus)
    y = y.transpose(1, 2).unflatten(2, (DIRECTIONS, -1))  # (B, L, 4, D)
    return _image_order(y, height, width).sum(dim=3)


def cross_selective_scan_states(x: Tensor,
                                delta: Tensor,
                                A: Tensor,
                                B: Tensor,
                                delta_bias: Tensor | None = None,
                                delta_softplus: bool = False) -> Tensor:
    """Every hidden state of the four scans over a map, in image order.

    Args:
        x: The map, `(B, H, W, D)`.
        delta: The step before bias and softplus, `(B, H, W, 4, D)`, x's dtype.
        A: The decay rates, `(4, D, N)`, float32 (float64 with float64 inputs).
        B: The input's coefficients, `(B, H, W, 4, N)`, x's dtype.
        delta_bias: Added to delta, `(4, D)`. None: nothing is.
        delta_softplus: Whether softplus is applied to the step.

    Returns:
        `(B, H, W, 4, D, N)` in float32 (float64 for float64 inputs).

    Raises:
        ValueError: For a wrong shape, dtype or device; the message names the
            argument, what was expected and what came.
        RuntimeError: If the compiled ops are not built.

    Source:
        VMamba (arXiv 2401.10166), SS2D; as an output of its own, ours.
    """
    _check('cross_selective_scan_states', x, delta, A, {'B': B},
           {'delta_bias': delta_bias})
    height, width = x.shape[1:3]
    states = selective_scan_states(
        _sequences(_copies(x)), _sequences(delta), A.flatten(0, 1),
        _coefficients(B), _flat(delta_bias), delta_softplus)
    # (B, 4 D, N, L) to (B, L, 4, D N)
    states = states.permute(0, 3, 1, 2).unflatten(2, (DIRECTIONS, -1))
    maps = _image_order(states.flatten(3), height, width)
    return maps.unflatten(4, (-1, A.shape[2]))


def cross_readout(states: Tensor, C: Tensor) -> Tensor:
    """What any states of the four scans say: the sum over k of C_k . h_k.

    Args:
        states: `(B, H, W, 4, D, N)`, float32 or float64.
        C: The readout's coefficients, `(B, H, W, 4, N)`.

    Returns:
        `(B, H, W, D)` in C's dtype.

    Raises:
        ValueError: For a wrong shape; the message names the argument, what was
            expected and what came.

    Source:
        VMamba (arXiv 2401.10166), SS2D, for given states.
    """
    check_rank('cross_readout', 'states', states, 6,
               '(batch, height, width, 4, channels, states)')
    check_shape('cross_readout', 'C', C,
                (*states.shape[:4], states.shape[5]),
                '(batch, height, width, 4, states)')
    with torch.autocast(states.device.type, enabled=False):
        wide = C.to(states.dtype).unsqueeze(4)
        return (states * wide).sum(dim=(3, 5)).to(C.dtype)
