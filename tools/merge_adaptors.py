# SPDX-License-Identifier: Apache-2.0
"""Merge a checkpoint of adaptors only with its base into a whole checkpoint.

The toolboxes' inference calls, such as mmdet's init_detector, load no base.
"""

import argparse

from mmadaptor.arguments import new_checkpoint, parser_of, refuse_to_overwrite
from mmadaptor.checkpoints.adaptor_only import NOTE, base_state
from mmadaptor.checkpoints.loading import meta_of, peek
from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.checkpoints.writing import save
from mmadaptor.engine.command_line import add_config_options, read_config, run

EXAMPLE = r"""python tools/merge_adaptors.py configs/tuning/vmamba_t_adaptors_cub.py \
      work_dirs/vmamba_t_adaptors_cub/epoch_100.pth whole.pth"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument(
        'config',
        metavar='CONFIG',
        help='config file, whose init_cfg names the file of the base',
    )
    parser.add_argument(
        'checkpoint', metavar='CHECKPOINT', help='checkpoint of adaptors only'
    )
    parser.add_argument(
        'dst', type=new_checkpoint, metavar='DST', help='checkpoint to write'
    )
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    """Merge."""
    args = parse_args()
    refuse_to_overwrite(args.dst, args.checkpoint)
    cfg = read_config(args.config, args.cfg_options)
    model = build_and_load(cfg, args.checkpoint)
    meta = dict(meta_of(peek(args.checkpoint)))
    meta.pop(NOTE, None)
    # The state dict of LoRAModel does not include its base.
    weights = model.state_dict()
    for name, value in base_state(model).items():
        weights.setdefault(name, value)
    save(dict(meta=meta, state_dict=weights), args.dst)
    print(f'{args.dst}: {len(weights)} tensors.')


if __name__ == '__main__':
    run(main)
