# SPDX-License-Identifier: Apache-2.0
"""Models as ONNX files of standard operators, and the check that they are equal."""

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmadaptor.checkpoints.writing import replace_when_written
from mmadaptor.environment import PIP, has_code
from mmadaptor.errors import InputError

from .custom_ops import DOMAIN, ONNXRUNTIME, custom_op_table, custom_ops_library
from .decompositions import POOLING, Decompositions
from .program import export_program

NEEDED = dict(onnx='1.23', onnxscript='0.7', onnxruntime='1.32')
# The highest opset that torch exports to, and that of LinearAttention. Between them
# only Range of the operators in our graphs changed, by further types.
OPSETS = (25, 27)
FUSED_OPSET = 20


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
) -> None:
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
    program = export_program(model, size, channels, dynamic, table | POOLING)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=['images'],
            output_names=list(outputs),
            opset_version=OPSETS[0] if standard else FUSED_OPSET,
            verbose=False,
        )
    if standard:
        exported.model.opset_imports[''] = OPSETS[1]
    exported.model.metadata_props.update(metadata or {})
    content = exported.model_proto
    onnx.checker.check_model(content)
    with replace_when_written(path) as part:
        onnx.save(content, part)


def require(packages: Sequence[str]) -> None:
    """Raise unless packages of `NEEDED` are installed.

    Raises:
        InputError: Names those that are missing, and the command that installs them.
    """
    missing = [name for name in packages if not has_code(name)]
    if missing:
        what = ' '.join(f'"{name}>={NEEDED[name]}"' for name in missing)
        raise InputError(
            f'An export to ONNX needs {", ".join(missing)}: {PIP} install {what}'
        )


def compare(
    path: str | Path, model: nn.Module, images: Sequence[torch.Tensor]
) -> dict[str, float]:
    """Run an exported file by onnxruntime and compare it with the model.

    Args:
        path: The file.
        model: What it was exported from.
        images: Batches of images.

    Returns:
        By name of the output the largest difference over the largest absolute value; of
        classes the share of those that differ. NaN where only one of both is NaN.

    Raises:
        InputError: onnxruntime is missing, or does not have an operator of the file.
    """
    require(['onnx', 'onnxruntime'])
    session = _session(path)
    names = [output.name for output in session.get_outputs()]
    worst = dict.fromkeys(names, 0.0)
    for batch in images:
        got = session.run(None, {'images': batch.numpy()})
        with torch.no_grad():
            expected = model.eval()(batch)
        expected = (expected,) if isinstance(expected, torch.Tensor) else expected
        for name, ours, theirs in zip(names, expected, got, strict=True):
            found = _difference(ours, torch.from_numpy(theirs))
            # Not `max`, which may pass over NaN.
            worst[name] = found if not found <= worst[name] else worst[name]
    return worst


def _session(path: str | Path) -> Any:
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
        version = importlib.metadata.version('onnxruntime')
        raise InputError(
            f'onnxruntime {version} cannot load {path}; it needs {needed} or later: '
            f'{str(error).strip()[:300]}'
        ) from error


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if not ours.is_floating_point():
        return (ours != theirs).float().mean().item()
    scale = ours.abs().max().clamp(min=1e-12)
    return ((ours - theirs).abs().max() / scale).item()
