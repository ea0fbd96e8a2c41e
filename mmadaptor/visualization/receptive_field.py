# SPDX-License-Identifier: Apache-2.0
"""Effective receptive field: how much a token depends on each pixel."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmadaptor.models.layers import AdaptorS, AdaptorT

DRAWS = 8


@contextmanager
def without_adaptors(backbone: nn.Module) -> Iterator[None]:
    """Set the scales of all adaptors to zero inside the context.

    The network then equals the plain network.

    Args:
        backbone: A backbone, or a model with one.
    """
    modules = list(backbone.modules())
    spatial = [m for m in modules if isinstance(m, AdaptorS)]
    scales = [m.gamma for m in modules if isinstance(m, AdaptorT)]
    scales += [m.alpha for m in spatial]
    # After switch_to_deploy, Adaptor-S uses its merged kernel instead of its scale.
    merged = [m.merged for m in spatial]
    for module in spatial:
        module.merged = None
    kept = [scale.detach().clone() for scale in scales]
    with torch.no_grad():
        for scale in scales:
            scale.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for scale, value in zip(scales, kept, strict=True):
                scale.copy_(value)
        for module, kernel in zip(spatial, merged, strict=True):
            module.merged = kernel


def receptive_field(
    backbone: nn.Module,
    images: Tensor,
    block: str,
    token: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:
    """Compute how much a token depends on each pixel of the images.

    Args:
        backbone: The backbone, in evaluation mode.
        images: `(B, in_channels, H, W)`.
        block: Path of the block in the backbone. The token is taken from its output.
        token: Row and column on the map of the block.
        size: Rows and columns of that map.

    Returns:
        `(H, W)`: absolute gradients of random sums over the channels of the token,
        averaged over 8 sums, the image channels and the images, and normalized to sum
        to 1.

    Source:
        Effective receptive field (arXiv 1701.04128). Random sums are our choice,
        because the plain sum is constant after a LayerNorm.
    """
    images = images.detach().clone().requires_grad_()
    outputs = []
    handle = backbone.get_submodule(block).register_forward_hook(
        lambda module, inputs, output: outputs.append(output)
    )
    try:
        backbone(images)
    finally:
        handle.remove()
    features = _token_of(outputs[-1], token, size)  # (B, C)
    generator = torch.Generator().manual_seed(0)
    field = torch.zeros(images.shape[-2:], device=images.device)
    for _ in range(DRAWS):
        signs = torch.randn(features.shape[1], generator=generator)
        (gradient,) = torch.autograd.grad(
            (features * signs.to(features)).sum(), images, retain_graph=True
        )
        field += gradient.abs().mean(dim=(0, 1))
    return (field / field.sum()).cpu()


def _token_of(output: Tensor, token: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the features of a token, `(B, C)`, from the output of a block."""
    if output.dim() == 4:
        return output[:, token[0], token[1]]
    # A sequence of patches with the class token in the middle.
    index = token[0] * size[1] + token[1]
    return output[:, index + (index >= size[0] * size[1] // 2)]


def radius_of(field: Tensor, share: float = 0.5) -> float:
    """Compute the radius of the disc with the area of the most important pixels.

    Args:
        field: `(H, W)`. Sums to 1.
        share: Share of the sum that these pixels hold. Default: 0.5.

    Returns:
        The radius in pixels.
    """
    most = field.flatten().sort(descending=True).values.cumsum(dim=0)
    pixels = int((most < share).sum()) + 1
    return (pixels / torch.pi) ** 0.5
