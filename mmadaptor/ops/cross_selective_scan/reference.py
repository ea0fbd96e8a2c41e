# SPDX-License-Identifier: Apache-2.0
"""Reference of the 2-D scan: explicit pixel orders and the 1-D reference."""

import torch
from torch import Tensor

from mmadaptor.ops.selective_scan import reference


def pixel_orders(height: int, width: int) -> list[list[tuple[int, int]]]:
    """Return the (row, column) pairs of a map in the order of each direction."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def cross_selective_scan_states(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Compute the states; see :func:`mmadaptor.ops.cross_selective_scan_states`.

    Args:
        x: `(B, H, W, D)`.
        delta: `(B, H, W, 4, D)`.
        A: `(4, D, N)`.
        B: `(B, H, W, 4, N)`.
        delta_bias: `(4, D)`.
        delta_softplus: Whether to apply softplus to `delta`.

    Returns:
        `(B, H, W, 4, D, N)`.
    """
    height, width = x.shape[1:3]
    directions = []
    for k, order in enumerate(pixel_orders(height, width)):
        i, j = torch.tensor(order, device=x.device).T
        states = reference.selective_scan_states(
            x[:, i, j].transpose(1, 2),
            delta[:, i, j, k].transpose(1, 2),
            A[k],
            B[:, i, j, k].transpose(1, 2),
            None if delta_bias is None else delta_bias[k],
            delta_softplus,
        )
        back = (i * width + j).argsort()  # the step that visits each pixel
        states = states.permute(0, 3, 1, 2)[:, back]  # (B, H W, D, N)
        directions.append(states.unflatten(1, (height, width)))
    return torch.stack(directions, dim=3)


def cross_readout(states: Tensor, C: Tensor) -> Tensor:
    """Compute the readout; see :func:`mmadaptor.ops.cross_readout`.

    Args:
        states: `(B, H, W, 4, D, N)`.
        C: `(B, H, W, 4, N)`.

    Returns:
        `(B, H, W, D)`.
    """
    y = torch.einsum('bhwkdn,bhwkn->bhwd', states, C.to(states.dtype))
    return y.to(C.dtype)


def cross_selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute the scan; see :func:`mmadaptor.ops.cross_selective_scan`.

    Args:
        x: `(B, H, W, D)`.
        delta: `(B, H, W, 4, D)`.
        A: `(4, D, N)`.
        B: `(B, H, W, 4, N)`.
        C: `(B, H, W, 4, N)`.
        D: `(4, D)`.
        delta_bias: `(4, D)`.
        delta_softplus: Whether to apply softplus to `delta`.
        return_states: Whether to return the states as well.

    Returns:
        `(B, H, W, D)` in the dtype of x; with `return_states` also the states.
    """
    states = cross_selective_scan_states(x, delta, A, B, delta_bias, delta_softplus)
    y = cross_readout(states, C.to(states.dtype))
    if D is not None:
        y = y + D.sum(dim=0) * x.to(A.dtype)
    y = y.to(x.dtype)
    return (y, states) if return_states else y
