# SPDX-License-Identifier: Apache-2.0
"""Draws what a model sees in pictures: boxes and masks, classes or a label.

Usage: python tools/image_demo.py IMAGE [IMAGE ...] CONFIG CHECKPOINT
"""

import argparse

from mmengine.config import Config
from rich.progress import track

import mmadaptor.engine  # noqa: F401  (registers safe loaders)
from mmadaptor.engine.cfg_options import merge_options
from mmadaptor.engine.checks.preflight import check_model
from mmadaptor.engine.command_line import add_config_options, read_config, run
from mmadaptor.engine.inference import (
    Demo,
    check_device,
    conversions,
    explain,
    find_pictures,
    places_for,
)
from mmadaptor.errors import InputError


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGE',
        help='picture, folder of pictures, or pattern such as "data/**/*.jpg"',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out-dir', default='outputs', help='folder for the drawings')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='lowest score of a box'
    )
    parser.add_argument(
        '--device', help='such as cuda:1 (default: an accelerator, if any)'
    )
    add_config_options(parser)
    return parser.parse_args()


def load(args: argparse.Namespace) -> Config:
    """Reads the config, and checks the checkpoint against it.

    Args:
        args: The arguments.

    Returns:
        The config.

    Raises:
        InputError: One of them is missing, damaged or of another task.
    """
    cfg = read_config(args.config)
    merge_options(cfg, args.cfg_options)
    cfg.load_from = args.checkpoint
    check_model(cfg, device=args.device)
    return cfg


def main() -> None:
    """Draws; whatever fails is named at the end and stops nothing else."""
    args = parse_args()
    if args.device is not None:
        check_device(args.device)
    pictures, notes = find_pictures(args.images)
    places = places_for(pictures, args.out_dir)
    demo = Demo(load(args), args.checkpoint, args.device, args.score_thr)
    for note in [*notes, *conversions(pictures)]:
        print(f'note: {note}')
    failures = []
    jobs = list(zip(pictures, places, strict=True))
    for picture, place in track(jobs, description='Pictures'):
        try:
            demo.draw(picture, place)
        except InputError as error:
            failures.append(explain(error))
    print(
        f'{len(pictures) - len(failures)} of {len(pictures)} pictures are '
        f'drawn, in {args.out_dir}'
    )
    if failures:
        raise InputError(
            f'{len(failures)} could not be drawn:\n  ' + '\n  '.join(failures)
        )


if __name__ == '__main__':
    run(main)
