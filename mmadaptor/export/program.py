# SPDX-License-Identifier: Apache-2.0
"""Models as programs of torch.export, whose batch and image size may change."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmadaptor.errors import InputError, described

SMALLEST = 33
"""The smallest side of an image; the last map has two rows and columns then."""
UNCHANGED = 'An earlier file of this name is unchanged.'
"""What is said if an exported file cannot be written."""


def export_program(
    model: nn.Module,
    size: tuple[int, int],
    channels: int = 3,
    dynamic: bool = True,
    decompositions: Mapping[torch._ops.OpOverload, Callable] | None = None,
) -> ExportedProgram:
    """Export a model for inference by torch.export.

    Args:
        model: Takes images `(B, channels, H, W)`; it is set to evaluation mode.
        size: Height and width of the images to export with.
        channels: Channels of the images.
        dynamic: Whether the batch and both sides may change, from 1 and `SMALLEST` on.
        decompositions: What to put in the place of operators.

    Raises:
        InputError: The size is too small, or torch cannot export the model.
    """
    if min(size) < SMALLEST:
        raise InputError(
            f'Images for an export must have {SMALLEST} or more rows and columns, got '
            f'{size[0]} x {size[1]}.'
        )
    device = next(model.parameters()).device
    images = torch.zeros(2 if dynamic else 1, channels, *size, device=device)
    shapes = None
    if dynamic:
        sides = {i: Dim(n, min=SMALLEST) for i, n in ((2, 'height'), (3, 'width'))}
        shapes = dict(images={0: Dim('batch', min=1), **sides})
    try:
        with torch.no_grad():
            program = torch.export.export(
                _Named(model.eval()), (images,), dynamic_shapes=shapes, strict=False
            )
            return program.run_decompositions(dict(decompositions or {}))
    except Exception as error:
        raise InputError(
            f'{type(model).__name__} cannot be exported: {described(error)[:1000]}'
        ) from error


class _Named(nn.Module):
    """Calls its first argument `images`, whatever the model does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Call the model."""
        return self.model(images)
