# SPDX-License-Identifier: Apache-2.0
"""Trains a model of mmdet, mmseg or mmpretrain; the config says which.

Usage: python tools/train.py CONFIG
"""

import argparse
import logging
import os

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

import mmadaptor.engine  # noqa: F401  (registers hooks and safe loaders)
from mmadaptor.checkpoints.loading import peek
from mmadaptor.checkpoints.pretrained import drop_pretrained
from mmadaptor.checkpoints.strict import check_resumable, find_resumable
from mmadaptor.engine.amp import lower_on_cpu
from mmadaptor.engine.checks.preflight import check_training
from mmadaptor.engine.command_line import (
    ADAPTORS_ALONE,
    add_common_arguments,
    build_runner,
    has_hook,
    load_config,
    make_data,
    run,
)
from mmadaptor.errors import InputError


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the newest whole one in the '
        'work folder',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='start without the pretrained checkpoints that the config names',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision; on a CPU that of the backbone, in bfloat16',
    )
    parser.add_argument(
        '--amp-dtype',
        choices=['float16', 'bfloat16'],
        help="the lower precision, where it is not the device's usual one; "
        'implies --amp',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch of all processes',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Puts the arguments of a training into its config.

    Args:
        cfg: The config, which is changed.
        args: The arguments.

    Raises:
        InputError: An argument needs what the config does not have.
    """
    if args.from_scratch:
        drop_pretrained(cfg.model)
        cfg.load_from = None
    if args.amp or args.amp_dtype:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.amp_dtype:
        cfg.optim_wrapper.dtype = args.amp_dtype
    lower_on_cpu(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise InputError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) '
                f'in {args.config}: the batch that its learning rate is for.'
            )
        cfg.auto_scale_lr.enable = True
    saving = cfg.setdefault('default_hooks', {}).setdefault(
        'checkpoint', dict(type='CheckpointHook', interval=1)
    )
    if saving and saving['type'] in ('CheckpointHook', CheckpointHook):
        saving['type'] = 'mmadaptor.SafeCheckpointHook'
    if args.resume:
        resume(cfg, args.resume)


def resume(cfg: Config, source: str) -> None:
    """Makes a config go on from a checkpoint.

    Args:
        cfg: The config, which is changed.
        source: A checkpoint, or `'auto'` for the newest whole one in the work
            folder; where there is none the training starts anew, from
            `load_from` if the config has one, so that one command serves a
            job that is started again and again.
    """
    cfg.resume = True
    # The checkpoints of another runner may be folders of shards.
    sharded = 'runner_type' in cfg
    if source == 'auto':
        find = find_latest_checkpoint if sharded else find_resumable
        newest = find(cfg.work_dir)
        if newest is None:
            cfg.resume = False
            print_log(
                f'{cfg.work_dir} has no checkpoint: starting anew.',
                'current',
                logging.WARNING,
            )
            return
        cfg.load_from = newest
        if sharded:
            return
    else:
        cfg.load_from = source
        if os.path.isfile(source):
            check_resumable(source)
    # All weights come from the checkpoint, but a frozen base that it lacks.
    if not has_hook(cfg, ADAPTORS_ALONE):
        drop_pretrained(cfg.model)


def keep_seed(cfg: Config) -> None:
    """Gives a resumed run without a seed the seed that it was started with.

    mmengine takes it over after the data loaders are built, too late for the
    order of their samples.

    Args:
        cfg: The config, which is changed.
    """
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None and os.path.isfile(cfg.load_from):
        meta = peek(cfg.load_from).get('meta', {})
        cfg.randomness = {**randomness, 'seed': meta.get('seed')}


def main() -> None:
    """Trains."""
    args = parse_args()
    cfg = load_config(args)
    apply_arguments(cfg, args)
    make_data(cfg)
    check_training(cfg)
    if cfg.get('resume') and cfg.load_from:
        keep_seed(cfg)
    build_runner(cfg).train()


if __name__ == '__main__':
    run(main)
