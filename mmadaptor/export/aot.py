# SPDX-License-Identifier: Apache-2.0
"""Models as packages of AOTInductor, which run without their Python code."""

from pathlib import Path

import torch
from torch import nn

from mmadaptor.checkpoints.writing import replace_when_written

from .program import export_program


def export_aot(
    model: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    channels: int = 3,
    dynamic: bool = True,
) -> None:
    """Export a model as a package for the device that it is on.

    `torch._inductor.aoti_load_package` loads it in a process that has imported
    `mmadaptor.ops` or loaded `libmmadaptor.so`; it needs this processor or GPU or one
    with the same instructions.

    Args:
        model: Takes images `(B, channels, H, W)`.
        path: The file, written as a whole or not at all.
        size: Height and width of the images to export with.
        channels: Channels of the images.
        dynamic: Whether the batch and both sides may change.

    Raises:
        InputError: The size is too small, or the model cannot be exported.
    """
    program = export_program(model, size, channels, dynamic)
    with replace_when_written(path) as part:
        package = f'{part}.pt2'  # torch wants this ending
        torch._inductor.aoti_compile_and_package(program, package_path=package)
        Path(package).rename(part)
