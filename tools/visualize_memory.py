# SPDX-License-Identifier: Apache-2.0
"""Draw the places of Adaptor-T, the decay of the scan, and receptive fields."""

import argparse
import os
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from mmadaptor.arguments import filled, parser_of
from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.datasets.image_reader import ImageReader, as_visible
from mmadaptor.engine.command_line import add_config_options, read_config, run
from mmadaptor.errors import InputError
from mmadaptor.visualization import (
    Lattice,
    Scene,
    draw_fields,
    draw_memory,
    lattice_of,
    receptive_field,
    record_memory,
    without_adaptors,
)

EXAMPLE = r"""python tools/visualize_memory.py trained/disc_on.png \
      configs/mamba_adaptor_b0_shapes.py \
      trained/mamba_adaptor_b0_shapes.safetensors --tokens 0.5,0.5 0.2,0.8"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('image', metavar='IMAGE', help='image file')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint file')
    parser.add_argument(
        '--tokens',
        nargs='+',
        default=['0.5,0.5'],
        metavar='ROW,COLUMN',
        help='tokens to draw, as fractions of height and width (default: 0.5,0.5)',
    )
    parser.add_argument(
        '--block',
        metavar='PATH',
        help='path of the block in the backbone, such as stages.2.0 (default: '
        'the last block with an Adaptor-T on the largest map)',
    )
    parser.add_argument(
        '--out-dir',
        type=filled,
        default='memory',
        help='folder for the figures (default: memory)',
    )
    add_config_options(parser)
    return parser.parse_args()


def parse_token(text: str) -> tuple[float, float]:
    """Parse a token `ROW,COLUMN` of the command line.

    Returns:
        Row and column, from 0 to 1.

    Raises:
        InputError: It is no such pair.
    """
    try:
        row, column = (float(part) for part in text.split(','))
    except ValueError:
        row = column = -1.0
    if not (0 <= row <= 1 and 0 <= column <= 1):
        raise InputError(
            f'--tokens {text}: expected ROW,COLUMN as fractions '
            'from 0 to 1, such as 0.5,0.25'
        )
    return row, column


def choose_block(records: dict, asked: str | None) -> str:
    """Return the path of the mixer to draw.

    Args:
        records: Records of all blocks with an Adaptor-T.
        asked: Path of the block. Default: the last one of the largest map.

    Returns:
        A key of `records`.

    Raises:
        InputError: There is no such block, or no block with an Adaptor-T.
    """
    if not records:
        raise InputError(
            'The backbone of the config has no Adaptor-T: set '
            'adaptors=dict(temporal=dict(...)).'
        )
    if asked is None:
        largest = max(r.locations.shape[1:3].numel() for r in records.values())
        return [
            path
            for path, record in records.items()
            if record.locations.shape[1:3].numel() == largest
        ][-1]
    if f'{asked}.mixer' not in records:
        blocks = [path.removesuffix('.mixer') for path in records]
        raise InputError(
            f'--block {asked}: expected a block with an '
            f'Adaptor-T, one of {", ".join(blocks)}'
        )
    return f'{asked}.mixer'


def nearest(
    fractions: tuple[float, float],
    image: Sequence[int],
    lattice: Lattice,
    size: Sequence[int],
) -> tuple[int, int]:
    """Return the token at a position on the image.

    Args:
        fractions: Position as fractions of the height and the width of the image.
        image: Shape of the image, `(H, W, ...)`.
        lattice: Positions of the tokens of the map on the image.
        size: Rows and columns of the map.

    Returns:
        Row and column on the map.
    """
    pixel = np.array(fractions) * image[:2] - 0.5
    place = np.floor((pixel - lattice.first) / lattice.stride + 0.5)
    row, column = place.clip(0, np.array(size) - 1)
    return int(row), int(column)


def both_fields(
    backbone: torch.nn.Module,
    inputs: torch.Tensor,
    block: str,
    token: tuple[int, int],
    size: tuple[int, int],
) -> dict:
    """Compute the receptive fields without and with the adaptors.

    Args:
        backbone: The backbone.
        inputs: `(1, C, H, W)`.
        block: Path of the block.
        token: Row and column on its map.
        size: Rows and columns of its map.

    Returns:
        Fields `(H, W)` by title.
    """
    with without_adaptors(backbone):
        plain = receptive_field(backbone, inputs, block, token, size)
    adapted = receptive_field(backbone, inputs, block, token, size)
    return {'without adaptors': plain, 'with adaptors': adapted}


def main() -> None:
    """Draw the figures of each token."""
    args = parse_args()
    tokens = [parse_token(text) for text in args.tokens]
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmadaptor'))
    reader = ImageReader(cfg)
    sample = reader(args.image)
    model = build_and_load(cfg, args.checkpoint).eval()
    inputs = model.data_preprocessor(pseudo_collate([sample]))['inputs']
    seen = as_visible(sample['inputs'].permute(1, 2, 0).numpy(), reader.bgr)
    records = record_memory(model.backbone, inputs)
    path = choose_block(records, args.block)
    block, record = path.removesuffix('.mixer'), records[path]
    size = tuple(record.locations.shape[1:3])
    os.makedirs(args.out_dir, exist_ok=True)
    lattice = lattice_of(model.backbone, block)
    for number, fractions in enumerate(tokens):
        scene = Scene(
            record, seen, lattice, nearest(fractions, seen.shape, lattice, size)
        )
        where = f'{block}, token {scene.token} of {size[0]} x {size[1]}'
        row, column = scene.token
        what = f'block {block}: token in row {row}, column {column} of its map'
        title = f'Where Adaptor-T reads, by direction of the scan\n{what}'
        draw_memory(scene, title).savefig(f'{args.out_dir}/memory_{number}.png')
        fields = both_fields(model.backbone, inputs, block, scene.token, size)
        title = f'Gradient of the token with respect to each pixel\n{what}'
        draw_fields(fields, scene, title).savefig(
            f'{args.out_dir}/receptive_field_{number}.png'
        )
        print(
            f'{where}: {args.out_dir}/memory_{number}.png, '
            f'{args.out_dir}/receptive_field_{number}.png'
        )


if __name__ == '__main__':
    run(main)
