# SPDX-License-Identifier: Apache-2.0
"""The effective receptive field: which pixels a token depends on, how much."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmadaptor.models.layers import AdaptorS, AdaptorT

DRAWS = 8


@contextmanager
def without_adaptors(backbone: nn.Module) -> Iterator[None]:
    """Set the adaptors' scales to zero for a while: the plain network.

    Args:
        backbone: A backbone, or a model with one.
    """
    modules = list(backbone.modules())
    spatial = [m for m in modules if isinstance(m, AdaptorS)]
    scales = [m.gamma for m in modules if isinstance(m, AdaptorT)]
    scales += [m.alpha for m in spatial]
    # Deployed, Adaptor-S does not ask its scale.
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
    """How a token after a block changes with each pixel of the images.

    Args:
        backbone: The backbone, in evaluation mode.
        images: `(B, in_channels, H, W)`.
        block: Path of the block in the backbone.
        token: Row and column on the block's map.
        size: Rows and columns of that map.

    Returns:
        `(H, W)`: the absolute gradients of random sums of the token's
        channels, averaged over the sums, colours and images; they sum to 1.

    Source:
        Effective receptive field (arXiv 1701.04128). Random sums are our
        choice: the plain sum is constant behind a LayerNorm.
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
    if output.dim() == 4:
        return output[:, token[0], token[1]]
    # A sequence of patches with the class token in its middle.
    index = token[0] * size[1] + token[1]
    return output[:, index + (index >= size[0] * size[1] // 2)]


def radius_of(field: Tensor, share: float = 0.5) -> float:
    """The size of a field: the disc as large as the pixels that matter most.

    Args:
        field: `(H, W)`, summing to 1.
        share: Of the sum that those pixels hold.

    Returns:
        The radius of that disc, in pixels.
    """
    most = field.flatten().sort(descending=True).values.cumsum(dim=0)
    pixels = int((most < share).sum()) + 1
    return (pixels / torch.pi) ** 0.5
