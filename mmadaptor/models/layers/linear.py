# SPDX-License-Identifier: Apache-2.0
"""Linear layers, on a CPU by oneDNN."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

from .plain_layer import is_plain

# The product that torch.compile uses on a CPU. Some builds of torch are without it.
_ONEDNN = torch.backends.mkldnn.is_available() and getattr(
    torch.ops.mkldnn, '_linear_pointwise', None
)
_DTYPES = [torch.float32]
if _ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    _DTYPES.append(torch.bfloat16)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer.

    On a CPU, in float32 and bfloat16, oneDNN computes it, where `F.linear` calls MKL
    for float32. Everything that observes or transforms operators (compilers, exporters,
    modes, counters of FLOPs, `torch.func`) meets `F.linear` instead.

    Args:
        x: `(..., C)`.
        weight: `(C', C)`.
        bias: `(C')`, or None.

    Returns:
        `(..., C')`, contiguous.

    Raises:
        RuntimeError: Shapes or dtypes do not fit; the error is that of `F.linear`.
    """
    if not _observed(x, weight, bias):
        lowered = _lowered(x, weight, bias)
        if _by_onednn(*lowered):
            return _Linear.apply(*lowered)
    if x.dim() < 4:
        return F.linear(x, weight, bias)
    # One dimension for the pixels: torch.export cannot prove that W divides W K for a
    # dynamic width.
    return F.linear(x.flatten(0, 2), weight, bias).unflatten(0, x.shape[:3])


def apply_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer of a backbone.

    Args:
        layer: An `nn.Linear`, which :func:`linear` computes if the layer is plain and
            there are no global module hooks; otherwise it is called. Or a module that
            replaced it, which is called.
        x: `(..., in_features)`.

    Returns:
        `(..., out_features)`.
    """
    if is_plain(layer, nn.Linear) and not _has_any_global_hook():
        return linear(x, layer.weight, layer.bias)
    return layer(x)


def _lowered(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Cast tensors as autocast does for `F.linear`, which leaves float64 as it is."""
    if tensors[0].device.type != 'cpu' or not torch.is_autocast_enabled('cpu'):
        return tensors
    dtype = torch.get_autocast_dtype('cpu')
    kept = None, torch.float64
    return tuple(
        t if getattr(t, 'dtype', None) in kept else t.to(dtype) for t in tensors
    )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Return whether oneDNN can compute the product.

    It trusts its arguments: wrong shapes and dtypes are for F.linear to refuse.
    """
    tensors = [t for t in (x, weight, bias) if t is not None]
    return (
        bool(_ONEDNN)
        and torch.backends.mkldnn.enabled
        and x.dtype in _DTYPES
        and all(
            t.dtype == x.dtype and t.device.type == 'cpu' and t.layout == torch.strided
            for t in tensors
        )
        and x.numel() > 0
        and x.dim() > 1
        and weight.dim() == 2
        and weight.shape[1] == x.shape[-1]
        and weight.numel() > 0
        and (bias is None or bias.shape == weight.shape[:1])
    )


def _observed(*tensors: Tensor | None) -> bool:
    """Return whether something records or transforms the operators that are called."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.overrides.has_torch_function(tensors)  # or a mode
        or forward_ad._current_level >= 0
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _ONEDNN(x.contiguous(), weight, bias, 'none', [], '')


class _Linear(torch.autograd.Function):
    """The product with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the product."""
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients that are needed."""
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        # Second derivatives and batches of gradients need operators of torch.
        composed = torch.is_grad_enabled() or _observed(grad) or _batched(grad)
        grad_x = grad_weight = grad_bias = None
        if needs_x:
            grad_x = grad @ weight if composed else _product(grad, weight.t(), None)
        if needs_weight and not composed and _as_convolution(grad, x):
            grad_weight, grad_bias = _convolution_gradients(grad, x, needs_bias)
        else:
            rows = grad.reshape(-1, grad.shape[-1])
            if needs_weight:
                grad_weight = rows.t() @ x.reshape(-1, x.shape[-1])
            if needs_bias:
                grad_bias = rows.sum(0)
        return grad_x, grad_weight, grad_bias


def _batched(grad: Tensor) -> bool:
    """Return whether a gradient is a batch of them, as with `is_grads_batched`."""
    return torch._C._functorch.is_legacy_batchedtensor(grad)


def _as_convolution(grad: Tensor, x: Tensor) -> bool:
    """Return whether gradients of the weights are faster as those of a 1x1 convolution.

    Measured with two threads: for maps with at least as many pixels as channels.
    """
    widest = max(grad.shape[-1], x.shape[-1])
    return x.dim() > 3 and x.numel() // x.shape[-1] >= widest


def _convolution_gradients(
    grad: Tensor, x: Tensor, needs_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of weight and bias, by oneDNN."""
    grad, x = (
        t.contiguous().flatten(2, -2).permute(0, 3, 1, 2) for t in (grad, x)
    )  # (B, C, H, W), channels last
    channels = grad.shape[1]
    _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad,
        x,
        grad.new_empty(1).expand(channels, x.shape[1], 1, 1),  # only its shape is read
        bias_sizes=[channels],
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=1,
        output_mask=[False, True, needs_bias],
    )
    return grad_weight.flatten(1), grad_bias
