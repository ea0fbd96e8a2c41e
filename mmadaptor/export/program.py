# SPDX-License-Identifier: Apache-2.0
"""Models as programs of torch.export, whose batch and image size may change."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmadaptor.errors import InputError, described

SMALLEST = (33, 65, 129, 257)
"""The smallest sides of an image to try: a map of stride 32, 64, 128 or 256 has two
rows and columns there. torch.export cannot leave open whether a map has one row."""
UNCHANGED = 'An earlier file of this name is unchanged.'
"""What is said if an exported file cannot be written."""


def export_program(
    model: nn.Module,
    size: tuple[int, int],
    channels: int = 3,
    dynamic: bool = True,
    decompositions: Mapping[torch._ops.OpOverload, Callable] | None = None,
) -> tuple[ExportedProgram, int | None]:
    """Export a model for inference by torch.export.

    Args:
        model: Takes images `(B, channels, H, W)`; it is set to evaluation mode.
        size: Height and width of the images to export with.
        channels: Channels of the images.
        dynamic: Whether the batch and both sides may change, from 1 and one of
            `SMALLEST` on.
        decompositions: What to put in the place of operators.

    Returns:
        The program, and the smallest side of its images; None if they may not change.

    Raises:
        InputError: The size is too small, or torch cannot export the model.
    """
    if min(size) < SMALLEST[0]:
        raise InputError(
            f'Images for an export must have {SMALLEST[0]} or more rows and columns, '
            f'got {size[0]} x {size[1]}.'
        )
    device = next(model.parameters()).device
    images = torch.zeros(2 if dynamic else 1, channels, *size, device=device)
    try:
        with torch.no_grad():
            program, smallest = _export(_Named(model.eval()), images, dynamic)
            return program.run_decompositions(dict(decompositions or {})), smallest
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f'{type(model).__name__} cannot be exported: {described(error)[:1000]}'
        ) from error


def smallest_text(smallest: int | None) -> dict[str, str]:
    """Return the metadata entry of the smallest side, if there is one."""
    return {} if smallest is None else dict(smallest=str(smallest))


def _export(
    model: nn.Module, images: Tensor, dynamic: bool
) -> tuple[ExportedProgram, int | None]:
    """Export with the first of `SMALLEST` for which no size is an exception."""
    if not dynamic:
        return torch.export.export(model, (images,), strict=False), None
    fitting = [side for side in SMALLEST if side <= min(images.shape[2:])]
    for smallest in fitting:
        sides = {i: Dim(n, min=smallest) for i, n in ((2, 'height'), (3, 'width'))}
        shapes = dict(images={0: Dim('batch', min=1), **sides})
        try:
            program = torch.export.export(
                model, (images,), dynamic_shapes=shapes, strict=False
            )
            return program, smallest
        except torch._dynamo.exc.UserError as error:
            kinds = torch._dynamo.exc.UserErrorType
            if error.error_type != kinds.CONSTRAINT_VIOLATION:
                raise
            violated = error
    raise InputError(
        'The model cannot be exported for images of any size from '
        f'{fitting[-1]} x {fitting[-1]} pixels: export it with larger images (--size), '
        f'or for one size only (--fixed). {described(violated)[:1000]}'
    ) from violated


class _Named(nn.Module):
    """Calls its first argument `images`, whatever the model does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Call the model."""
        return self.model(images)
