# SPDX-License-Identifier: Apache-2.0
"""Our ops as custom ops of onnxruntime, which run the CPU kernels of torch's ops.

A custom op has the name, the arguments and the results of the op. Tensors are its
inputs, other arguments its attributes; checkpoints for a gradient are left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmadaptor.environment import install
from mmadaptor.errors import InputError
from mmadaptor.ops.cross_selective_scan import fake as cross_scan
from mmadaptor.ops.memory_readout import fake as memory_readout
from mmadaptor.ops.memory_select import fake as memory_select
from mmadaptor.ops.selective_scan import fake as scan

DOMAIN = 'mmadaptor'
ONNXRUNTIME = '1.18'
"""The first onnxruntime that reads the files; the library would do with 1.17."""
LIBRARY = Path(__file__).resolve().parents[1] / 'libmmadaptor_onnxruntime.so'


def custom_ops_library() -> Path:
    """Return the library for `onnxruntime.SessionOptions.register_custom_ops_library`.

    It needs onnxruntime 1.18 or later on a CPU, and nothing of torch or of mmadaptor:
    the file may be copied.

    Raises:
        InputError: It is not there.
    """
    if not LIBRARY.exists():
        again = install('mmadaptor', '--force-reinstall', '--no-deps')
        raise InputError(f'{LIBRARY} is missing: {again}')
    return LIBRARY


def custom_op_table() -> dict[torch._ops.OpOverload, Callable]:
    """Return what replaces each op, for `ExportedProgram.run_decompositions`."""
    ops = torch.ops.mmadaptor
    fakes = {
        ops.selective_scan.default: scan.scan,
        ops.selective_scan_states.default: scan.states,
        ops.cross_selective_scan.default: cross_scan.scan,
        ops.cross_selective_scan_states.default: cross_scan.states,
        ops.cross_readout.default: cross_scan.readout,
        ops.memory_select.default: memory_select.select,
        ops.memory_readout.default: memory_readout.readout,
    }
    table = {op: _custom(op, fake) for op, fake in fakes.items()}
    return table | {ops.dilated_depthwise.default: dilated_depthwise}


def dilated_depthwise(y: Tensor, kernels: Tensor, dilations: list[int]) -> Tensor:
    """Replace `dilated_depthwise`; the graph transposes the kernels, once."""
    taps = kernels.flatten(2).transpose(1, 2)  # (dilations, 9, channels)
    return _node('dilated_depthwise', [y, taps], [y], dict(dilations=dilations))[0]


def _custom(op: torch._ops.OpOverload, fake: Callable) -> Callable:
    """Return a function that calls the custom op in the place of an op.

    Args:
        op: The op, whose schema tells tensors from attributes.
        fake: Its fake kernel, which gives the shapes of the results.
    """

    def call(*arguments: Any) -> Tensor | tuple[Tensor, ...]:
        inputs, attributes = [], {}
        for argument, value in zip(op._schema.arguments, arguments, strict=True):
            if 'Tensor' in str(argument.type):
                inputs.append(value)
            else:
                attributes[argument.name] = (
                    value if isinstance(value, list) else int(value)
                )
        results = fake(*arguments)
        name = op._schema.name.partition('::')[2]
        if isinstance(results, Tensor):
            return _node(name, inputs, [results], attributes)[0]
        *outputs, checkpoints = results
        # States that were not asked for are an empty tensor of one dimension.
        nodes = iter(
            _node(name, inputs, [t for t in outputs if t.dim() > 1], attributes)
        )
        return *(next(nodes) if t.dim() > 1 else t for t in outputs), checkpoints

    return call


def _node(
    name: str, inputs: Sequence[Tensor | None], like: Sequence[Tensor], attributes: dict
) -> Sequence[Tensor]:
    title = ''.join(part.capitalize() for part in name.split('_'))
    return torch.onnx.ops.symbolic_multi_out(
        f'{DOMAIN}::{title}',
        inputs,
        attributes,
        dtypes=[t.dtype for t in like],
        shapes=[t.shape for t in like],
    )
