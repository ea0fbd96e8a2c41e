# SPDX-License-Identifier: Apache-2.0
"""Mixed precision where mmengine has none: on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.utils import apply_to
from torch import Tensor, nn

from mmadaptor.errors import InputError
from mmadaptor.registry import OPTIM_WRAPPERS

BFLOAT16 = ('bfloat16', torch.bfloat16)


def lower_on_cpu(cfg: Config) -> None:
    """Makes mmengine's `AmpOptimWrapper` one that a CPU can run.

    There the backbone computes in bfloat16 and the heads in float32, because
    mmcv's ops have no half types on a CPU. On an accelerator the config stays
    as it is.

    Args:
        cfg: The config, whose `optim_wrapper` is changed.

    Raises:
        InputError: It asks for another type than bfloat16 on a CPU, or the
            model has no backbone.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') not in ('AmpOptimWrapper', AmpOptimWrapper):
        return
    if get_device() != 'cpu':
        return
    dtype = wrapper.pop('dtype', None)
    if dtype not in (None, *BFLOAT16):
        raise InputError(
            f'Mixed precision with {dtype} needs an accelerator, and this '
            'machine has none: on a CPU it is bfloat16, which is what '
            'optim_wrapper.dtype is there if it is left out.'
        )
    if 'backbone' not in cfg.model:
        raise InputError(
            'Mixed precision on a CPU is that of the backbone, and '
            f'model={cfg.model.get("type")} has no `backbone`. Leave --amp '
            'out.'
        )
    # bfloat16 has the range of float32: no loss has to be scaled.
    wrapper.pop('loss_scale', None)
    wrapper.type = 'mmadaptor.CPUAmpOptimWrapper'
    print_log(
        'Mixed precision on a CPU: the backbone in bfloat16, the heads in float32.',
        'current',
    )


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Trains a model whose backbone computes in bfloat16, on a CPU.

    Weights, gradients and the optimizer stay in float32, and so do the states
    and the scan inside of mmadaptor's ops. The arguments are OptimWrapper's.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Lowers the backbone for one forward pass.

        Args:
            model: The model, or the wrapper around it.

        Yields:
            While the losses are computed.
        """
        inner = model.module if is_model_wrapper(model) else model
        with super().optim_context(model), lowered(inner.backbone):
            yield


@contextmanager
def lowered(backbone: nn.Module) -> Iterator[None]:
    """Has a module compute in bfloat16 on a CPU and return float32.

    Args:
        backbone: The module.

    Yields:
        While it does.
    """
    autocast = torch.autocast('cpu', dtype=torch.bfloat16)

    def enter(module: nn.Module, inputs: tuple) -> None:
        autocast.__enter__()

    def leave(
        module: nn.Module, inputs: tuple, outputs: Tensor | tuple
    ) -> Tensor | tuple:
        autocast.__exit__(None, None, None)
        return apply_to(outputs, _is_bfloat16, Tensor.float)

    hooks = (
        backbone.register_forward_pre_hook(enter),
        backbone.register_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_bfloat16(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16
