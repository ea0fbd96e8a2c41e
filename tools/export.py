# SPDX-License-Identifier: Apache-2.0
"""Exports the model of a config and a checkpoint, to be run without mmadaptor.

Usage: python tools/export.py CONFIG CHECKPOINT DST

DST ends with .onnx (ONNX, for onnxruntime) or with .pt2 (a package of AOTInductor, for
torch and mmadaptor.ops on this kind of processor). The model takes normalized images
`(batch, channels, height, width)` of any batch and size; what normalizes them, and the
classes, are in the metadata of the ONNX file. A classifier returns logits, a segmentor
logits of the size of the image, a detector what its dense head returns (and the maps of
the neck if it has two stages).
"""

import argparse
import json
import time
from pathlib import Path

import torch

from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.engine.cfg_options import merge_options
from mmadaptor.engine.command_line import (
    add_config_options,
    new_file,
    positive,
    read_config,
    run,
)
from mmadaptor.errors import InputError
from mmadaptor.export.aot import export_aot
from mmadaptor.export.custom_ops import custom_ops_library
from mmadaptor.export.memory import describe_memory
from mmadaptor.export.onnx import compare, export_onnx, require
from mmadaptor.export.openmmlab import (
    Exported,
    describe,
    resize_of_pipeline,
    sample_names,
    size_of_pipeline,
    task_of,
)

TOLERANCE = 1e-4
ANY_SIZE = (224, 224)
ODD = 37  # pixels that are added to the size for the check


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('dst', type=new_file, help='file to write: .onnx or .pt2')
    parser.add_argument(
        '--size',
        type=positive,
        nargs=2,
        metavar=('H', 'W'),
        help='image size to export with (default: that of the test pipeline)',
    )
    parser.add_argument(
        '--fixed', action='store_true', help='one image of that size only'
    )
    parser.add_argument(
        '--standard',
        action='store_true',
        help='operators of ONNX alone (opset 27), none of onnxruntime',
    )
    parser.add_argument(
        '--custom-ops',
        action='store_true',
        help='our own kernels in onnxruntime on a CPU, by a library of ours',
    )
    parser.add_argument(
        '--classes',
        action='store_true',
        help='the class of each pixel instead of the logits of a segmentor',
    )
    parser.add_argument(
        '--features',
        action='store_true',
        help='the maps of backbone and neck instead of what the head returns',
    )
    parser.add_argument(
        '--with-memory',
        action='store_true',
        help='also where each Adaptor-T looks from each pixel, and the decay of its '
        'scan; tools/make_page.py shows them',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace DST if it exists'
    )
    add_config_options(parser)
    return parser.parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is built.

    Raises:
        InputError: Arguments exclude each other, the file exists, or a package is
            missing.
    """
    kind = args.dst.suffix
    if kind not in ('.onnx', '.pt2'):
        raise InputError(f'{args.dst}: expected a name that ends with .onnx or .pt2.')
    if kind == '.pt2' and (args.standard or args.custom_ops):
        raise InputError('--standard and --custom-ops are for .onnx files.')
    if args.standard and args.custom_ops:
        raise InputError('--standard and --custom-ops exclude each other.')
    if kind == '.pt2' and args.with_memory:
        raise InputError('--with-memory is for .onnx files, whose metadata explain it.')
    if args.dst.exists() and not args.overwrite:
        raise InputError(f'{args.dst} exists: give another name, or --overwrite.')
    if args.custom_ops:
        custom_ops_library()
    if kind == '.onnx':
        require(['onnx', 'onnxscript', 'onnxruntime'])


def main() -> None:
    """Export, and compare with torch."""
    args = parse_args()
    check_arguments(args)
    kind = args.dst.suffix
    cfg = read_config(args.config)
    merge_options(cfg, args.cfg_options)
    model = build_and_load(cfg, args.checkpoint).eval()
    task = 'features' if args.features else task_of(model)
    if args.classes and task != 'segmentation':
        raise InputError(f'--classes is for segmentors, got {type(model).__name__}.')
    tested = args.size or size_of_pipeline(cfg)
    size = tuple(tested or ANY_SIZE)
    channels = getattr(getattr(model, 'backbone', model), 'in_channels', 3)
    layers = describe_memory(model) if args.with_memory else []
    if args.with_memory and not layers:
        raise InputError(
            f'--with-memory: the {type(model).__name__} of {args.config} has no '
            'Adaptor-T; set adaptors=dict(temporal=dict(...)) of its backbone.'
        )
    exported = Exported(model, task, args.classes, args.with_memory).eval()
    names = sample_names(exported, size, channels)
    metadata = describe(model, tested, task, resize_of_pipeline(cfg))
    if layers:
        metadata['memory'] = json.dumps(layers)
    start = time.perf_counter()
    if kind == '.onnx':
        export_onnx(
            exported,
            args.dst,
            size,
            names,
            channels,
            args.standard,
            not args.fixed,
            metadata,
            args.custom_ops,
        )
    else:
        export_aot(exported, args.dst, size, channels, not args.fixed)
    seconds = time.perf_counter() - start
    print(
        f'{args.dst}: {type(model).__name__}, outputs {", ".join(names)}; '
        f'{args.dst.stat().st_size / 1e6:.1f} MB in {seconds:.0f} s.'
    )
    if args.custom_ops:
        print(f'Its custom ops are in {custom_ops_library()}')
    if kind == '.onnx':
        check(args.dst, exported, size, channels, args.fixed)


def check(
    path: Path, model: Exported, size: tuple[int, int], channels: int, fixed: bool
) -> None:
    """Compare the file with the model on random images.

    Raises:
        InputError: They differ by more than `TOLERANCE`; the file is removed.
    """
    shapes = [(1, channels, *size)]
    if not fixed:
        shapes += [(3, channels, size[0] + ODD, size[1]), (2, channels, size[1], 61)]
    torch.manual_seed(0)
    worst = compare(path, model, [torch.randn(shape) for shape in shapes])
    shown = ', '.join(f'{name} {value:.1e}' for name, value in worst.items())
    print(f'onnxruntime against torch, largest relative difference: {shown}.')
    if not all(value <= TOLERANCE for value in worst.values()):  # or NaN
        path.unlink()
        raise InputError(
            f'{path} differed from the model by more than {TOLERANCE}, and was removed.'
        )


if __name__ == '__main__':
    run(main)
