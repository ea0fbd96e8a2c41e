# SPDX-License-Identifier: Apache-2.0
"""Reference of the selective scan: a loop over time in plain torch.

Slow, differentiable any number of times, and exact in float64. The tests compare the
compiled op with it; second derivatives and forward-mode derivatives are computed by it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _per_step(coefficients: Tensor, channels: int, length: int) -> Tensor:
    """Return B or C in any of its forms as `(B or 1, D, N, L)`."""
    if coefficients.dim() == 2:
        return coefficients[None, :, :, None].expand(-1, -1, -1, length)
    if coefficients.dim() == 3:
        coefficients = coefficients[:, None]
    return coefficients.repeat_interleave(channels // coefficients.shape[1], dim=1)


def selective_scan_states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Compute every state; see :func:`mmadaptor.ops.selective_scan_states`.

    Args:
        u: `(B, D, L)`.
        delta: `(B, D, L)`.
        A: `(D, N)`.
        B: `(D, N)`, `(B, N, L)` or `(B, G, N, L)`.
        delta_bias: `(D,)`.
        delta_softplus: Whether to apply softplus to `delta`.

    Returns:
        `(B, D, N, L)` in the dtype of A.
    """
    channels, length = u.shape[1:]
    u, delta, B = (t.to(A.dtype) for t in (u, delta, B))
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    B = _per_step(B, channels, length)
    decay = torch.exp(delta[:, :, None] * A[:, :, None])  # (B, D, N, L)
    drive = (delta * u)[:, :, None] * B
    h = torch.zeros_like(decay[..., 0])
    states = []
    # Not by index: the gradient of each step would be as large as all steps.
    for factor, term in zip(decay.unbind(-1), drive.unbind(-1), strict=True):
        h = factor * h + term
        states.append(h)
    return torch.stack(states, dim=-1)


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
    """Compute the scan; see :func:`mmadaptor.ops.selective_scan`.

    Args:
        u: `(B, D, L)`.
        delta: `(B, D, L)`.
        A: `(D, N)`.
        B: `(D, N)`, `(B, N, L)` or `(B, G, N, L)`.
        C: As B.
        D: `(D,)`.
        z: `(B, D, L)`.
        delta_bias: `(D,)`.
        delta_softplus: Whether to apply softplus to `delta`.
        return_last_state: Whether to return the last state as well.

    Returns:
        `(B, D, L)` in the dtype of u; with `return_last_state` also `(B, D, N)`.
    """
    channels, length = u.shape[1:]
    states = selective_scan_states(u, delta, A, B, delta_bias, delta_softplus)
    y = (_per_step(C.to(A.dtype), channels, length) * states).sum(dim=2)
    if D is not None:
        y = y + D[:, None] * u.to(A.dtype)
    if z is not None:
        y = y * F.silu(z.to(A.dtype))
    y = y.to(u.dtype)
    return (y, states[..., -1]) if return_last_state else y
