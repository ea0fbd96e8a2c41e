# SPDX-License-Identifier: Apache-2.0
"""Train a model of mmdet, mmseg or mmpretrain."""

import argparse

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmadaptor.arguments import filled, parser_of
from mmadaptor.checkpoints.pretrained import drop_pretrained
from mmadaptor.engine import Runner
from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    load_config,
    needed,
    run,
    runner_class,
)
from mmadaptor.errors import InputError

EXAMPLE = r"""python tools/train.py configs/mamba_adaptor_b0_shapes.py \
      --work-dir work_dirs/demo_cls --resume"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        type=filled,
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or from the newest one in the work '
        'folder that is not damaged',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='start without the pretrained checkpoints that the config names',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision; on a CPU the backbone computes in bfloat16',
    )
    parser.add_argument(
        '--amp-dtype',
        choices=['float16', 'bfloat16'],
        help='the lower precision (default: that of the device); implies --amp',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch size of all processes',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Put the arguments of a training into its config.

    Args:
        cfg: The config, changed in place.
        args: The arguments.

    Raises:
        InputError: An argument needs a setting that the config does not have.
    """
    if args.from_scratch:
        drop_pretrained(cfg.model)
        cfg.load_from = None
    if args.amp or args.amp_dtype:
        needed(cfg, 'optim_wrapper', '--amp').type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.amp_dtype:
        cfg.optim_wrapper.dtype = args.amp_dtype
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise InputError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) '
                f'in {args.config}: the batch size of its learning rate.'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume == 'auto' and issubclass(runner_class(cfg), Runner):
        cfg.resume = 'auto'
    elif args.resume == 'auto':
        newest = find_latest_checkpoint(cfg.work_dir)
        cfg.resume, cfg.load_from = newest is not None, newest or cfg.load_from
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume


def main() -> None:
    """Train."""
    args = parse_args()
    cfg = load_config(args)
    apply_arguments(cfg, args)
    build_runner(cfg, 'train').train()


if __name__ == '__main__':
    run(main)
