# SPDX-License-Identifier: Apache-2.0
"""Strip a checkpoint of what only training needs, to publish its weights.

The optimizer, the schedule and the state of the loaders stay behind; weights, classes
and config are kept.
"""

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmadaptor.arguments import new_checkpoint, parser_of, refuse_to_overwrite
from mmadaptor.checkpoints.adaptor_only import NOTE
from mmadaptor.checkpoints.loading import meta_of, peek, weights_of
from mmadaptor.checkpoints.writing import save
from mmadaptor.engine.command_line import run
from mmadaptor.errors import InputError

KEPT = ('cfg', 'dataset_meta', 'experiment_name', 'epoch', 'iter', NOTE)
EXAMPLE = r"""python tools/publish_model.py work_dirs/demo_cls/epoch_2.pth \
      published/classifier.safetensors --half"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint file')
    parser.add_argument(
        'dst',
        type=new_checkpoint,
        metavar='DST',
        help='file to write: .safetensors, which cannot hold code, or .pth',
    )
    parser.add_argument(
        '--half', action='store_true', help='write float16, half the size'
    )
    return parser.parse_args()


def as_half(weights: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Return the weights with floats as float16.

    Args:
        weights: Tensors by name.
        path: The file that they come from.

    Raises:
        InputError: A number is too large for float16.
    """
    halves = {
        name: value.half()
        for name, value in weights.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    for name, value in halves.items():
        lost = weights[name][value.isinf() & weights[name].isfinite()]
        if len(lost):
            most = lost.abs().max()
            raise InputError(
                f'{path}: {name} has numbers up to {most:.3g}, and float16 ends at '
                f'{torch.finfo(torch.float16).max:.0f}: leave out --half'
            )
    return {**weights, **halves}


def main() -> None:
    """Write the file."""
    args = parse_args()
    refuse_to_overwrite(args.dst, args.checkpoint)
    content = peek(args.checkpoint)
    weights = dict(weights_of(content, args.checkpoint))
    if args.half:
        if NOTE in meta_of(content):
            raise InputError(
                f'{args.checkpoint} has only what was tuned, with a digest of its '
                'bits: leave out --half, or merge it first by tools/merge_adaptors.py'
            )
        weights = as_half(weights, args.checkpoint)
    meta = {key: value for key, value in meta_of(content).items() if key in KEPT}
    save(dict(meta=meta, state_dict=weights), args.dst)
    written = Path(args.dst).read_bytes()
    print(
        f'{args.dst}: {len(weights)} tensors, {len(written) / 1e6:.1f} MB, SHA-256 '
        f'{hashlib.sha256(written).hexdigest()}'
    )


if __name__ == '__main__':
    run(main)
