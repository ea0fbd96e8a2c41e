# SPDX-License-Identifier: Apache-2.0
"""Writes one whole checkpoint from adaptors alone and their base.

Usage: python tools/merge_adaptors.py CONFIG CHECKPOINT DST

The toolboxes' inference calls, such as mmdet's init_detector, load no base.
"""

import argparse

from mmadaptor.checkpoints.adaptor_only import NOTED, base_state, load_model
from mmadaptor.checkpoints.loading import peek
from mmadaptor.engine.command_line import (
    add_common_arguments,
    load_config,
    refuse_to_overwrite,
    run,
)
from mmadaptor.engine.hooks.safe_checkpoint_hook import save_whole


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'config', help="config file, whose init_cfg names the base's file"
    )
    parser.add_argument('checkpoint', help='checkpoint of adaptors alone')
    parser.add_argument('dst', help='checkpoint to write')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Merges."""
    args = parse_args()
    refuse_to_overwrite(args.dst, args.checkpoint)
    cfg = load_config(args)
    model = load_model(cfg, args.checkpoint)
    meta = dict(peek(args.checkpoint).get('meta') or {})
    meta.pop(NOTED, None)
    # LoRAModel's state dict leaves its base out.
    weights = {**base_state(model), **model.state_dict()}
    save_whole(dict(meta=meta, state_dict=weights), args.dst)
    print(f'{args.dst}: {len(weights)} tensors.')


if __name__ == '__main__':
    run(main)
