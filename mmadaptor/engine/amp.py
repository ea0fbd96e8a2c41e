# SPDX-License-Identifier: Apache-2.0
"""Mixed precision on a CPU, which mmengine does not support."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.utils import apply_to
from torch import Tensor, nn

from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.errors import InputError
from mmadaptor.registry import OPTIM_WRAPPERS

BFLOAT16 = ('bfloat16', torch.bfloat16)


def lower_on_cpu(wrapper: Any, model: nn.Module) -> Any:
    """Replace the config of mmengine's `AmpOptimWrapper` on a CPU.

    There the backbone computes in bfloat16 and the heads in float32, because
    mmcv's ops have no half types on a CPU.

    Raises:
        InputError: A CPU is to use a type other than bfloat16, or the model has
            no backbone.
    """
    kind = wrapper.get('type') if isinstance(wrapper, dict) else None
    name = getattr(kind, '__name__', str(kind)).rpartition('.')[2]  # dumped: in full
    if get_device() != 'cpu' or name != 'AmpOptimWrapper':
        return wrapper
    dtype = wrapper.get('dtype')
    if dtype not in (None, *BFLOAT16):
        raise InputError(
            'CPU mixed precision supports bfloat16 only, which is the default: '
            f'remove optim_wrapper.dtype, or run on an accelerator. Got {dtype}.'
        )
    if not hasattr(unwrapped(model), 'backbone'):
        raise InputError(
            'CPU mixed precision lowers the backbone only, and '
            f'{type(model).__name__} has no `backbone`. Omit --amp.'
        )
    text = 'CPU mixed precision: the backbone in bfloat16, the heads in float32.'
    print_log(text, 'current')
    # bfloat16 has the range of float32, so that no loss has to be scaled.
    kept = {k: v for k, v in wrapper.items() if k not in ('dtype', 'loss_scale')}
    return {**kept, 'type': 'mmadaptor.CPUAmpOptimWrapper'}


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Trains a model whose backbone computes in bfloat16, on a CPU.

    Weights, gradients, the optimizer, and the states and the scan inside
    mmadaptor's ops stay in float32. The arguments are those of OptimWrapper.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Lower the backbone for one forward pass."""
        with super().optim_context(model), lowered(unwrapped(model).backbone):
            yield


@contextmanager
def lowered(backbone: nn.Module) -> Iterator[None]:
    """Make a module compute in bfloat16 on a CPU and return float32."""
    autocast = torch.autocast('cpu', dtype=torch.bfloat16)

    def enter(module: nn.Module, inputs: tuple) -> None:
        autocast.__enter__()

    def leave(
        module: nn.Module, inputs: tuple, outputs: Tensor | tuple
    ) -> Tensor | tuple:
        autocast.__exit__(None, None, None)
        return apply_to(outputs, _is_bfloat16, Tensor.float)

    with (
        backbone.register_forward_pre_hook(enter),
        backbone.register_forward_hook(leave, always_call=True),
    ):
        yield


def _is_bfloat16(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16
