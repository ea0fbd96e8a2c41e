# SPDX-License-Identifier: Apache-2.0
"""Export a trained model, to run it without mmadaptor.

DST ends with .onnx (ONNX, for onnxruntime) or with .pt2 (a package of AOTInductor, for
torch and mmadaptor.ops on this kind of processor). The model takes normalized images
`(batch, channels, height, width)` of any batch and of any size from 33 x 33 pixels,
most detectors from 65 x 65 or 129 x 129; the smallest side, what normalizes images, and
the classes are in the metadata of the file. A classifier returns logits, a segmentor
logits of the size of the image, a detector what its dense head returns (and the maps of
the neck if it has two stages).
"""

import argparse
import json
import time
from functools import partial

import torch

from mmadaptor.arguments import new_file, parser_of, positive
from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.checkpoints.writing import replace_when_written
from mmadaptor.engine.command_line import add_config_options, read_config, run
from mmadaptor.errors import InputError
from mmadaptor.export import aot, onnx
from mmadaptor.export.custom_ops import ONNXRUNTIME, custom_ops_library
from mmadaptor.export.memory import describe_memory
from mmadaptor.export.openmmlab import (
    Exported,
    describe,
    resize_of_pipeline,
    sample_names,
    size_of_pipeline,
    task_of,
)
from mmadaptor.export.program import UNCHANGED

TOLERANCE = 1e-4
ANY_SIZE = (224, 224)
ODD = 37  # pixels that are added to the size for the check
EXAMPLE = r"""python tools/export.py configs/upernet_mamba_adaptor_b0_shapes.py \
      trained/upernet_mamba_adaptor_b0_shapes.safetensors model.onnx \
      --classes --with-memory"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint file')
    parser.add_argument(
        'dst', type=new_file, metavar='DST', help='file to write: .onnx or .pt2'
    )
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
        help='only standard operators of ONNX (opset 27), none of onnxruntime',
    )
    parser.add_argument(
        '--custom-ops',
        action='store_true',
        help='our own kernels, by a library that onnxruntime loads on a CPU',
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
            missing or too old.
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
    if args.classes and args.features:
        raise InputError('--classes and --features exclude each other.')
    if args.dst.exists() and not args.overwrite:
        raise InputError(f'{args.dst} exists: give another name, or --overwrite.')
    if args.custom_ops:
        custom_ops_library()
    if kind == '.onnx':
        oldest = ONNXRUNTIME if args.custom_ops else onnx.NEEDED['onnxruntime']
        onnx.require(['onnx', 'onnxscript', 'onnxruntime'], oldest)


def main() -> None:
    """Export, and compare with torch."""
    args = parse_args()
    check_arguments(args)
    cfg = read_config(args.config, args.cfg_options)
    model = build_and_load(cfg, args.checkpoint).eval()
    task = 'features' if args.features else task_of(model)
    if args.classes and task != 'segmentation':
        raise InputError(f'--classes is for segmentors, got {type(model).__name__}.')
    tested = args.size or size_of_pipeline(cfg)
    size = tuple(tested or ANY_SIZE)
    channels = getattr(getattr(model, 'backbone', model), 'in_channels', 3)
    exported = Exported(model, task, args.classes, args.with_memory).eval()
    sample_names(exported, size, channels)
    metadata = describe(model, tested, task, resize_of_pipeline(cfg))
    if args.with_memory:
        metadata['memory'] = memory_text(exported, args.config)
    start = time.perf_counter()
    with replace_when_written(args.dst, UNCHANGED) as part:
        smallest, worst = write(args, part, exported, size, channels, metadata)
        check(worst)
    seconds = time.perf_counter() - start
    sizes = 'one image of {} x {}'.format(*size)
    if smallest:
        sizes = f'images of any size from {smallest} x {smallest}'
    print(
        f'{args.dst}: {type(model).__name__}, outputs {", ".join(worst)}; takes '
        f'{sizes}; {args.dst.stat().st_size / 1e6:.1f} MB in {seconds:.0f} s.'
    )
    if args.custom_ops:
        print(f'Its custom ops are in {custom_ops_library()}')
    shown = ', '.join(f'{name} {value:.1e}' for name, value in worst.items())
    print(f'Largest relative difference from torch: {shown}.')


def memory_text(exported: Exported, config: str) -> str:
    """Describe the memory that a model returns, as JSON.

    Raises:
        InputError: There is none.
    """
    if not exported.recorded:
        raise InputError(
            f'--with-memory: the {type(exported.model).__name__} of {config} runs no '
            'block with an Adaptor-T; set adaptors=dict(temporal=dict(...)) of its '
            'backbone.'
        )
    return json.dumps(describe_memory(exported.model, exported.recorded))


def write(
    args: argparse.Namespace,
    path: str,
    model: Exported,
    size: tuple[int, int],
    channels: int,
    metadata: dict[str, str],
) -> tuple[int | None, dict[str, float]]:
    """Write the file, and compare it with the model.

    Returns:
        The smallest side of an image, if sizes may change, and the differences from the
        model by output.
    """
    dynamic, names = not args.fixed, model.names
    if args.dst.suffix == '.pt2':
        smallest = aot.export_aot(model, path, size, channels, dynamic, metadata)
        compare = partial(aot.compare, path, names)
    else:
        smallest = onnx.export_onnx(
            model,
            path,
            size,
            names,
            channels,
            args.standard,
            dynamic,
            metadata,
            args.custom_ops,
        )
        compare = partial(onnx.compare, path)
    shapes = [(1, channels, *size)]
    if smallest:
        # Batches of the largest need memory.
        height, width = (max(smallest, side) for side in map(min, size, ANY_SIZE))
        shapes += [(3, channels, height + ODD, width), (2, channels, width, smallest)]
    torch.manual_seed(0)
    return smallest, compare(model, [torch.randn(shape) for shape in shapes])


def check(worst: dict[str, float]) -> None:
    """Refuse a file that differs from its model.

    Raises:
        InputError: A difference is more than `TOLERANCE`.
    """
    wrong = {k: v for k, v in worst.items() if not v <= TOLERANCE}  # or NaN
    if wrong:
        shown = ', '.join(f'{name} by {value:.1e}' for name, value in wrong.items())
        raise InputError(
            f'Nothing was written: the exported file differs from torch in {shown} of '
            f'the largest value, more than {TOLERANCE}.'
        )


if __name__ == '__main__':
    run(main)
