# SPDX-License-Identifier: Apache-2.0
"""Layers whose parameters may be read instead of calling them."""

from torch import Tensor, nn
from torch._subclasses import FakeTensor

# torch.export traces a model with fake tensors as its parameters.
_PLAIN = (Tensor, nn.Parameter, FakeTensor)


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a call of a layer only applies its weight and bias.

    A fused op may then read the parameters. LoRA and quantization replace the layer or
    put a tensor of another class, which not every operator takes, in the place of its
    weight; a parametrization changes its class; and hooks may change its input, weight
    and output: such a layer must be called.

    Args:
        layer: The layer.
        kind: Class of the layer as constructed.
    """
    changed = (
        layer._forward_pre_hooks
        or layer._forward_hooks
        or layer._backward_pre_hooks
        or layer._backward_hooks
        or 'forward' in vars(layer)
    )
    return (
        type(layer) is kind
        and not changed
        and all(type(p) in _PLAIN for p in layer.parameters(recurse=False))
    )
