# SPDX-License-Identifier: Apache-2.0
"""Our ops in torch's own operators and ONNX's LinearAttention.

With `update_rule='gated'`, heads of one value and `d_k` states, LinearAttention is

.. code-block:: text

    S_t = exp(decay_t) S_{t-1} + k_t v_t,    o_t = q_t . S_t

So `decay = delta A`, `k = B`, `v = delta u` and `q = C` make it the selective scan, and
heads of a single state with `k = q = 1` give every state.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadaptor.ops.memory_readout import find_places

DIRECTIONS = 4


class Decompositions:
    """The decompositions of our ops for a forward pass.

    Args:
        domain: Domain of LinearAttention: `'com.microsoft'`, which onnxruntime runs by
            one kernel, or `''` for that of ONNX.
    """

    def __init__(self, domain: str = 'com.microsoft') -> None:
        self.operator = f'{domain or "ai.onnx"}::LinearAttention'

    def table(self) -> dict[torch._ops.OpOverload, Callable]:
        """Return the decompositions by op, for `ExportedProgram.run_decompositions`."""
        ops = torch.ops.mmadaptor
        return {
            ops.selective_scan.default: self.selective_scan,
            ops.selective_scan_states.default: self.selective_scan_states,
            ops.cross_selective_scan.default: self.cross_selective_scan,
            ops.cross_selective_scan_states.default: self.cross_selective_scan_states,
            ops.cross_readout.default: cross_readout,
            ops.memory_select.default: memory_select,
            ops.memory_readout.default: memory_readout,
            ops.dilated_depthwise.default: dilated_depthwise,
        }

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, decay: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Call LinearAttention.

        Args:
            q: `(B, L, H, N)` for H heads of N states.
            k: `(B, L, H, N)`.
            v: `(B, L, H)`.
            decay: `(B, L, H, N)`.

        Returns:
            The outputs `(B, L, H)` and the last states `(B, H, N)`.
        """
        heads, states = q.shape[2:]
        inputs = [q.flatten(2), k.flatten(2), v, None, decay.flatten(2), None]
        last = (v.shape[0], heads, states, 1)
        y, last_state = torch.onnx.ops.symbolic_multi_out(
            self.operator,
            inputs,
            dict(update_rule='gated', q_num_heads=heads, kv_num_heads=heads, scale=1.0),
            dtypes=(v.dtype, v.dtype),
            shapes=(v.shape, last),
        )
        return y, last_state.squeeze(-1)

    def _states(self, v: Tensor, k: Tensor, decay: Tensor) -> Tensor:
        """Return every state `(B, L, H, N)`: each has a head of its own."""
        values = (v.unsqueeze(-1) * k).flatten(2)
        ones = torch.ones_like(values).unsqueeze(-1)
        states, _ = self.attend(ones, ones, values, decay.flatten(2).unsqueeze(-1))
        return states.unflatten(2, decay.shape[2:])

    def selective_scan(
        self,
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
        """Decompose `selective_scan`."""
        v, decay = _steps(u, delta, A, delta_bias, delta_softplus)
        k, q = (_of_channels(t, v) for t in (B, C))
        y, last_state = self.attend(q, k, v, decay)
        y = y.transpose(1, 2)
        if D is not None:
            y = y + D[:, None] * u
        if z is not None:
            y = y * F.silu(z)
        return y, last_state, y.new_empty(0)

    def selective_scan_states(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        delta_bias: Tensor | None,
        delta_softplus: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decompose `selective_scan_states`."""
        v, decay = _steps(u, delta, A, delta_bias, delta_softplus)
        states = self._states(v, _of_channels(B, v), decay)
        return states.permute(0, 2, 3, 1), u.new_empty(0)

    def cross_selective_scan(
        self,
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
        """Decompose `cross_selective_scan`."""
        empty = x.new_empty(0)
        if return_states:
            arguments = x, delta, A, B, delta_bias, delta_softplus
            states, _ = self.cross_selective_scan_states(*arguments)
            y = cross_readout(states, C)
        else:
            states = empty
            v, decay = _cross_steps(x, delta, A, delta_bias, delta_softplus)
            k, q = (t.unsqueeze(-2).expand_as(decay) for t in (B, C))
            y, _ = self.attend(*map(_in_order, (q, k, v, decay)))
            y = _in_place(y, x.shape[1:3]).sum(dim=3)
        if D is not None:
            y = y + D.sum(dim=0) * x
        return y, states, empty

    def cross_selective_scan_states(
        self,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        delta_bias: Tensor | None,
        delta_softplus: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decompose `cross_selective_scan_states`."""
        v, decay = _cross_steps(x, delta, A, delta_bias, delta_softplus)
        k = B.unsqueeze(-2).expand_as(decay)
        states = self._states(*map(_in_order, (v, k, decay)))
        return _in_place(states, x.shape[1:3]), x.new_empty(0)


def _step_size(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    delta = delta if bias is None else delta + bias
    return F.softplus(delta) if softplus else delta


def _steps(
    u: Tensor, delta: Tensor, A: Tensor, bias: Tensor | None, softplus: bool
) -> tuple[Tensor, Tensor]:
    """Return the values `(B, L, D)` and the decays `(B, L, D, N)` of a sequence."""
    delta = _step_size(delta.transpose(1, 2), bias, softplus)
    return delta * u.transpose(1, 2), delta.unsqueeze(-1) * A


def _of_channels(t: Tensor, v: Tensor) -> Tensor:
    """Return a B or C of any form as `(B, L, D, N)`; see `selective_scan`."""
    batch, length, channels = v.shape
    if t.dim() == 2:  # (D, N)
        return t.expand(batch, length, -1, -1)
    t = t.unsqueeze(1) if t.dim() == 3 else t  # (B, G, N, L)
    groups = t.shape[1]
    t = t.permute(0, 3, 1, 2).unsqueeze(3)  # (B, L, G, 1, N)
    return t.expand(-1, -1, -1, channels // groups, -1).flatten(2, 3)


def _cross_steps(
    x: Tensor, delta: Tensor, A: Tensor, bias: Tensor | None, softplus: bool
) -> tuple[Tensor, Tensor]:
    """Return values `(B, H, W, 4, D)` and decays `(B, H, W, 4, D, N)` of a map."""
    delta = _step_size(delta, bias, softplus)
    return delta * x.unsqueeze(3), delta.unsqueeze(-1) * A


def _in_order(t: Tensor) -> Tensor:
    """Return `(B, H, W, 4, D, ...)` as `(B, H W, 4 D, ...)`, as the directions go."""
    rows, columns, rows_back, columns_back = t.unbind(3)
    ordered = [
        rows.flatten(1, 2),
        columns.transpose(1, 2).flatten(1, 2),
        rows_back.flatten(1, 2).flip(1),
        columns_back.transpose(1, 2).flatten(1, 2).flip(1),
    ]
    return torch.cat(ordered, dim=2)


def _in_place(t: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo `_in_order`: `(B, H W, 4 D, ...)` to `(B, H, W, 4, D, ...)`."""
    height, width = size
    rows, columns, rows_back, columns_back = t.unflatten(2, (DIRECTIONS, -1)).unbind(2)
    maps = [
        rows.unflatten(1, (height, width)),
        columns.unflatten(1, (width, height)).transpose(1, 2),
        rows_back.flip(1).unflatten(1, (height, width)),
        columns_back.flip(1).unflatten(1, (width, height)).transpose(1, 2),
    ]
    return torch.stack(maps, dim=3)


def cross_readout(states: Tensor, C: Tensor) -> Tensor:
    """Decompose `cross_readout`."""
    return (states * C.unsqueeze(-2)).sum(dim=(3, 5))


def memory_select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Decompose `memory_select`: GridSample at the places, and their weighted sum.

    A location that is not finite gives what GridSample gives there.
    """
    height, width = states.shape[1:3]
    groups, places = weights.shape[4:]
    maps = states.flatten(4).unflatten(4, (groups, -1))  # (B, H, W, K, S, D/S N)
    maps = maps.permute(0, 3, 4, 5, 1, 2).flatten(0, 2)
    row, column = locations.permute(0, 3, 4, 1, 2, 5, 6).flatten(0, 2).unbind(-1)
    # From pixels to the span of the map, -1 to 1 between its edges.
    grid = torch.stack(
        [(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1
    )  # (B K S, H, W, P, 2)
    seen = F.grid_sample(
        maps, grid.flatten(2, 3), padding_mode='zeros', align_corners=False
    ).unflatten(3, (width, places))  # (B K S, D/S N, H, W, P)
    factors = weights.permute(0, 3, 4, 1, 2, 5).flatten(0, 2).unsqueeze(1)
    memory = (seen * factors).sum(dim=4)
    directions = states.shape[3]
    memory = memory.unflatten(0, (-1, directions, groups)).permute(0, 4, 5, 1, 2, 3)
    return memory.flatten(4).unflatten(4, states.shape[4:])


def memory_readout(
    values: Tensor, predicted: Tensor, granularities: list[float], coefficients: Tensor
) -> Tensor:
    """Decompose `memory_readout`."""
    places = find_places(predicted, granularities)
    memory = memory_select(values.unsqueeze(-1), *places).squeeze(-1)
    return (memory * coefficients.unsqueeze(-1)).sum(dim=3)


def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: list[int]) -> Tensor:
    """Decompose `dilated_depthwise`."""
    maps = y.permute(0, 3, 1, 2)
    total = maps
    for kernel, r in zip(kernels, dilations, strict=True):
        total = total + F.conv2d(
            maps, kernel.unsqueeze(1), padding=r, dilation=r, groups=len(kernel)
        )
    return total.permute(0, 2, 3, 1)


def adaptive_avg_pool2d(x: Tensor, output_size: list[int]) -> Tensor:
    """Decompose torch's adaptive pooling of `(..., H, W)`: two matrix products.

    ONNX has none; torch's own decomposition indexes pixels of one image size.
    """
    rows, columns = (
        _averages(size, count, x)
        for size, count in zip(x.shape[-2:], output_size, strict=True)
    )
    return rows @ x @ columns.T


POOLING = {
    torch.ops.aten.adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    torch.ops.aten._adaptive_avg_pool2d.default: adaptive_avg_pool2d,
}
"""The decomposition of pooling, for every kind of file."""


def _averages(size: int, count: int, like: Tensor) -> Tensor:
    """Return the matrix `(count, size)` that averages numbers in bins."""
    bins = torch.arange(count, device=like.device).unsqueeze(1)
    first = torch.div(bins * size, count, rounding_mode='floor')
    last = torch.div((bins + 1) * size - 1, count, rounding_mode='floor')
    places = torch.arange(size, device=like.device)
    inside = (places >= first) & (places <= last)
    return inside.to(like.dtype) / (last - first + 1).to(like.dtype)
