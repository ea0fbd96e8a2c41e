# SPDX-License-Identifier: Apache-2.0
"""Linear layers on channels-last maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from .plain_layer import is_plain


def channels_last_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear layer at every pixel of a map.

    On a CPU this is a 1x1 convolution: torch computes convolutions by oneDNN and matrix
    products by MKL. On an AMD processor, that saves an eighth of the time of b2,
    forward and backward. With one thread, where torch does not use oneDNN for
    convolutions and is slower, and in compiled or exported graphs, it is a matrix
    product.

    Args:
        x: `(B, H, W, ..., C)`.
        weight: `(C', C)`.
        bias: `(C')`, or None.

    Returns:
        `(B, H, W, ..., C')`.
    """
    if (
        x.device.type != 'cpu'
        or x.dtype == torch.float64
        or torch.compiler.is_compiling()
        or torch.get_num_threads() == 1
        or not torch.backends.mkldnn.is_available()
    ):
        # One dimension for the pixels: torch.export cannot prove that W divides W K
        # for a dynamic width.
        return F.linear(x.flatten(0, 2), weight, bias).unflatten(0, x.shape[:3])
    maps = x.flatten(2, -2).permute(0, 3, 1, 2)  # a channels_last view
    y = F.conv2d(maps, weight[..., None, None], bias).permute(0, 2, 3, 1)
    return y.unflatten(2, x.shape[2:-1])


def apply_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer of a backbone at every pixel of a map.

    Args:
        layer: An `nn.Linear`, which :func:`channels_last_linear` computes if the layer
            is plain and there are no global module hooks; otherwise it is called. Or a
            module that replaced it, which is called.
        x: A map, channels last, `(B, H, W, in_features)`.

    Returns:
        `(B, H, W, out_features)`.
    """
    if is_plain(layer, nn.Linear) and not _has_any_global_hook():
        return channels_last_linear(x, layer.weight, layer.bias)
    return layer(x)
