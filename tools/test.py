# SPDX-License-Identifier: Apache-2.0
"""Tests a checkpoint of mmdet, mmseg or mmpretrain.

Usage: python tools/test.py CONFIG CHECKPOINT
"""

import argparse
import os

from mmengine.config import Config

from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    filled,
    load_config,
    run,
)
from mmadaptor.errors import InputError
from mmadaptor.visualization.enlarge import draw_large


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', type=filled, metavar='FILE.pkl', help='file for the predictions'
    )
    parser.add_argument(
        '--show-dir', type=filled, help='folder for images of the predictions'
    )
    add_common_arguments(parser)
    return parser.parse_args()


def draw_into(cfg: Config, folder: str) -> None:
    """Turn on the toolbox's own drawing of predictions.

    Args:
        cfg: The config, changed in place.
        folder: The folder for the images.

    Raises:
        InputError: The config has no visualization hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook:
        raise InputError(
            "--show-dir needs the toolbox's hook in the config: "
            'default_hooks=dict(visualization=dict(type=...)).'
        )
    # mmdet would put a relative path below its log folder.
    folder = os.path.abspath(folder)
    scope = cfg.get('default_scope')
    if scope == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    elif scope == 'mmseg':
        hook.update(draw=True)
        cfg.visualizer.vis_backends = [
            dict(type='LocalVisBackend', img_save_dir=folder)
        ]
    else:
        hook.update(draw=True, test_out_dir=folder)


def dump_into(cfg: Config, path: str) -> None:
    """Add a metric that writes the predictions to a file.

    Args:
        cfg: The config, changed in place.
        path: The file.

    Raises:
        InputError: The file is not named as a pickle.
    """
    if not path.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out {path}: expected a name that ends in .pkl')
    # mmdet's own packs masks as run lengths.
    detection = cfg.get('default_scope') == 'mmdet'
    dump = dict(
        type='DumpDetResults' if detection else 'DumpResults', out_file_path=path
    )
    metrics = cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list) else [metrics]
    cfg.test_evaluator = [*metrics, dump]


def main() -> None:
    """Test."""
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show_dir:
        draw_into(cfg, args.show_dir)
    if args.out:
        dump_into(cfg, args.out)
    runner = build_runner(cfg)
    if args.show_dir and cfg.get('default_scope') != 'mmpretrain':
        draw_large(runner.visualizer)
    runner.test()


if __name__ == '__main__':
    run(main)
