# SPDX-License-Identifier: Apache-2.0
"""Layers whose parameters may be read instead of calling them."""

from torch import nn


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a call of a layer only applies its weight and bias.

    A fused op may then read the parameters. LoRA and quantization replace the layer, a
    parametrization changes its class, and hooks may change its input, weight and
    output: such a layer must be called.

    Args:
        layer: The layer.
        kind: Class of the layer as constructed.
    """
    return type(layer) is kind and not (
        layer._forward_pre_hooks
        or layer._forward_hooks
        or layer._backward_pre_hooks
        or layer._backward_hooks
        or 'forward' in vars(layer)
    )
