# SPDX-License-Identifier: Apache-2.0
"""Models as ONNX files of standard operators, and the check that they are equal."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmadaptor.checkpoints.writing import replace_when_written
from mmadaptor.environment import PIP, has_code, numbers
from mmadaptor.errors import InputError

from .comparison import differences
from .custom_ops import DOMAIN, ONNXRUNTIME, custom_op_table, custom_ops_library
from .decompositions import POOLING, Decompositions
from .program import UNCHANGED, export_program, smallest_text

NEEDED = dict(onnx='1.23', onnxscript='0.7', onnxruntime='1.32')
# The highest opset that torch exports to, and that of LinearAttention. Between them
# only Range of the operators in our graphs changed, by further types.
OPSETS = (25, 27)
FUSED_OPSET = 20
NAMES = {0: 'batch', 2: 'height', 3: 'width'}
"""What the dimensions of images that may change are called in a file."""


def export_onnx(
    model: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    outputs: Sequence[str],
    channels: int = 3,
    standard: bool = False,
    dynamic: bool = True,
    metadata: Mapping[str, str] | None = None,
    custom_ops: bool = False,
) -> int | None:
    """Export a model to ONNX.

    The scan becomes LinearAttention, which onnxruntime has as a kernel of its own since
    1.32, and the gather of Adaptor-T becomes GridSample; or all ops become custom ops,
    which run our kernels.

    Args:
        model: Takes images `(B, channels, H, W)`, float32.
        path: The file, written as a whole or not at all.
        size: Height and width of the images to export with.
        outputs: Names of the outputs.
        channels: Channels of the images.
        standard: Whether to use operators of ONNX alone, opset 27. By default
            LinearAttention is onnxruntime's (`com.microsoft`).
        dynamic: Whether the batch and both sides may change.
        metadata: Texts by name for the file.
        custom_ops: Whether to use custom ops of the domain `mmadaptor`, for sessions
            with :func:`.custom_ops_library`; not together with `standard`.

    Returns:
        The smallest side of an image, which is `smallest` in the metadata of the file;
        None without `dynamic`.

    Raises:
        InputError: A package is missing, the size is too small, the model cannot be
            exported, or both `standard` and `custom_ops` are given.
    """
    if standard and custom_ops:
        raise InputError('`standard` and `custom_ops` exclude each other, got both.')
    require(['onnx', 'onnxscript'])
    import onnx

    domain = '' if standard else 'com.microsoft'
    table = custom_op_table() if custom_ops else Decompositions(domain).table()
    program, smallest = export_program(model, size, channels, dynamic, table | POOLING)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=['images'],
            output_names=list(outputs),
            dynamic_shapes=dict(images=NAMES) if dynamic else None,
            opset_version=OPSETS[0] if standard else FUSED_OPSET,
            verbose=False,
        )
    if standard:
        exported.model.opset_imports[''] = OPSETS[1]
    texts = dict(metadata or {}, **smallest_text(smallest))
    exported.model.metadata_props.update(texts)
    content = exported.model_proto
    onnx.checker.check_model(content)
    with replace_when_written(path, UNCHANGED) as part:
        onnx.save(content, part)
    return smallest


def require(packages: Sequence[str], onnxruntime: str = NEEDED['onnxruntime']) -> None:
    """Raise unless packages of `NEEDED` are installed, and new enough.

    Args:
        packages: Their import names.
        onnxruntime: The oldest onnxruntime that will do.

    Raises:
        InputError: Names those that are missing or older, and the command that installs
            them.
    """
    needed = NEEDED | dict(onnxruntime=onnxruntime)
    wrong = {name: text for name in packages if (text := _problem(name, needed[name]))}
    if wrong:
        what = ' '.join(f'"{name}>={needed[name]}"' for name in wrong)
        raise InputError(
            f'An export to ONNX needs {", ".join(wrong.values())}: {PIP} install {what}'
        )


def _problem(name: str, version: str) -> str:
    if not has_code(name):
        return name
    # Not that of the distribution: onnxruntime comes from several.
    found = importlib.import_module(name).__version__
    newer = numbers(found) >= numbers(version)
    return '' if newer else f'{name} {version} or later (installed: {found})'


def compare(
    path: str | Path, model: nn.Module, images: Sequence[Tensor]
) -> dict[str, float]:
    """Run an exported file by onnxruntime and compare it with the model.

    Args:
        path: The file.
        model: What it was exported from.
        images: Batches of images, on the device of the model.

    Returns:
        By name of the output what :func:`.differences` returns.

    Raises:
        InputError: onnxruntime is missing, or does not have an operator of the file.
    """
    session = _session(path)
    names = [output.name for output in session.get_outputs()]

    def run(batch: Tensor) -> list[Tensor]:
        found = session.run(None, {'images': batch.cpu().numpy()})
        return [torch.from_numpy(values).to(batch.device) for values in found]

    return differences(run, names, model, images)


def _session(path: str | Path) -> Any:
    require(['onnx', 'onnxruntime'], ONNXRUNTIME)
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    imported = onnx.load(path, load_external_data=False).opset_import
    library, needed = None, NEEDED['onnxruntime']
    if DOMAIN in {opset.domain for opset in imported}:
        library, needed = custom_ops_library(), ONNXRUNTIME
    try:
        if library:
            options.register_custom_ops_library(str(library))
        return onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
    except Exception as error:
        raise InputError(
            f'onnxruntime {onnxruntime.__version__} cannot load {path}; it needs '
            f'{needed} or later: {str(error).strip()[:300]}'
        ) from error
