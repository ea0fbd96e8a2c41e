# SPDX-License-Identifier: Apache-2.0
"""Our ops as custom ops of onnxruntime, which run the CPU kernels of torch's ops."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmadaptor.environment import install
from mmadaptor.errors import InputError

from .decompositions import adaptive_avg_pool2d

DOMAIN = 'mmadaptor'
LIBRARY = Path(__file__).resolve().parents[1] / 'libmmadaptor_onnxruntime.so'


def custom_ops_library() -> Path:
    """Return the library for `onnxruntime.SessionOptions.register_custom_ops_library`.

    It needs onnxruntime 1.17 or later on a CPU, and nothing of torch or of mmadaptor:
    the file may be copied.

    Raises:
        InputError: It is not there.
    """
    if not LIBRARY.exists():
        again = install('mmadaptor', '--force-reinstall', '--no-deps')
        raise InputError(f'{LIBRARY} is missing: {again}')
    return LIBRARY


def replacements() -> dict[torch._ops.OpOverload, Callable]:
    """Return what replaces each op, for `ExportedProgram.run_decompositions`."""
    ops = torch.ops.mmadaptor
    return {
        ops.selective_scan.default: selective_scan,
        ops.selective_scan_states.default: selective_scan_states,
        ops.cross_selective_scan.default: cross_selective_scan,
        ops.cross_selective_scan_states.default: cross_selective_scan_states,
        ops.cross_readout.default: cross_readout,
        ops.memory_select.default: memory_select,
        ops.memory_readout.default: memory_readout,
        ops.dilated_depthwise.default: dilated_depthwise,
        torch.ops.aten.adaptive_avg_pool2d.default: adaptive_avg_pool2d,
        torch.ops.aten._adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    }


def _node(
    name: str,
    inputs: Sequence[Tensor | None],
    shapes: Sequence[Sequence[int]],
    **attributes: Any,
) -> Sequence[Tensor]:
    dtypes = [inputs[0].dtype] * len(shapes)
    return torch.onnx.ops.symbolic_multi_out(
        f'{DOMAIN}::{name}', inputs, attributes, dtypes=dtypes, shapes=shapes
    )


def selective_scan(
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
    """Replace `selective_scan`."""
    inputs = [u, delta, A, B, C, D, z, delta_bias]
    shapes = u.shape, (u.shape[0], *A.shape)
    y, last_state = _node(
        'SelectiveScan', inputs, shapes, delta_softplus=int(delta_softplus)
    )
    return y, last_state, u.new_empty(0)


def selective_scan_states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Replace `selective_scan_states`."""
    shapes = [(u.shape[0], *A.shape, u.shape[2])]
    (states,) = _node(
        'SelectiveScanStates',
        [u, delta, A, B, delta_bias],
        shapes,
        delta_softplus=int(delta_softplus),
    )
    return states, u.new_empty(0)


def cross_selective_scan(
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
    """Replace `cross_selective_scan`."""
    shapes = [x.shape]
    if return_states:
        shapes.append((*x.shape[:3], *A.shape))
    y, *states = _node(
        'CrossSelectiveScan',
        [x, delta, A, B, C, D, delta_bias],
        shapes,
        delta_softplus=int(delta_softplus),
        return_states=int(return_states),
    )
    empty = x.new_empty(0)
    return y, states[0] if return_states else empty, empty


def cross_selective_scan_states(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Replace `cross_selective_scan_states`."""
    (states,) = _node(
        'CrossSelectiveScanStates',
        [x, delta, A, B, delta_bias],
        [(*x.shape[:3], *A.shape)],
        delta_softplus=int(delta_softplus),
    )
    return states, x.new_empty(0)


def cross_readout(states: Tensor, C: Tensor) -> Tensor:
    """Replace `cross_readout`."""
    shape = *states.shape[:3], states.shape[4]
    return _node('CrossReadout', [states, C], [shape])[0]


def memory_select(states: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Replace `memory_select`."""
    return _node('MemorySelect', [states, locations, weights], [states.shape])[0]


def memory_readout(
    values: Tensor, predicted: Tensor, granularities: list[float], coefficients: Tensor
) -> Tensor:
    """Replace `memory_readout`."""
    shape = *values.shape[:3], values.shape[4]
    inputs = [values, predicted, coefficients]
    return _node('MemoryReadout', inputs, [shape], granularities=list(granularities))[0]


def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: list[int]) -> Tensor:
    """Replace `dilated_depthwise`."""
    taps = kernels.flatten(2).transpose(1, 2)
    return _node('DilatedDepthwise', [y, taps], [y.shape], dilations=list(dilations))[0]
