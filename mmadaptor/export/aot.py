# SPDX-License-Identifier: Apache-2.0
"""Models as packages of AOTInductor, which run without their Python code."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmadaptor.checkpoints.writing import replace_when_written
from mmadaptor.errors import InputError, described

from .comparison import differences
from .program import UNCHANGED, export_program, smallest_text


def export_aot(
    model: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    channels: int = 3,
    dynamic: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> int | None:
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
        metadata: Texts by name for the package; its `get_metadata()` returns them.

    Returns:
        What :func:`.export_onnx` does.

    Raises:
        InputError: The size is too small, or the model cannot be exported or compiled.
    """
    program, smallest = export_program(model, size, channels, dynamic, {})
    texts = dict(metadata or {}, **smallest_text(smallest))
    configs = {'aot_inductor.metadata': texts}
    with replace_when_written(path, UNCHANGED) as part:
        package = Path(f'{part}.pt2')  # torch wants this ending
        try:
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(package), inductor_configs=configs
            )
            package.rename(part)
        except OSError:  # said by `replace_when_written`
            raise
        except Exception as error:
            raise InputError(
                f'{type(model).__name__} cannot be compiled: {described(error)[:1000]}'
            ) from error
        finally:
            package.unlink(missing_ok=True)
    return smallest


def compare(
    path: str | Path, names: Sequence[str], model: nn.Module, images: Sequence[Tensor]
) -> dict[str, float]:
    """Run an exported package and compare it with the model.

    Args:
        path: The package.
        names: Names of its outputs.
        model: What it was exported from.
        images: Batches of images, on the device of the model.

    Returns:
        By name of the output what :func:`.differences` returns.
    """
    with open(path, 'rb') as package:
        run = torch._inductor.aoti_load_package(package)
    return differences(run, names, model, images)
