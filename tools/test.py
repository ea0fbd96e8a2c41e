# SPDX-License-Identifier: Apache-2.0
"""Test a checkpoint of mmdet, mmseg or mmpretrain."""

import argparse
import contextlib
import copy
import os
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from mmengine.config import Config, ConfigDict

from mmadaptor.arguments import filled, parser_of, seconds
from mmadaptor.datasets.checked_pipeline import CheckedPipeline
from mmadaptor.datasets.image_reader import loads_labels
from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    load_config,
    needed,
    run,
)
from mmadaptor.engine.preflight.datasets import leaves
from mmadaptor.errors import InputError
from mmadaptor.toolbox_code import innermost
from mmadaptor.visualization.enlarge import draw_large

# What the toolboxes' own test tools use where a config has none.
TTA_MODELS = dict(
    mmdet=dict(
        type='DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    ),
    mmseg=dict(type='SegTTAModel'),
    mmpretrain=dict(type='AverageClsScoreTTA'),
)
EXAMPLE = r"""python tools/test.py configs/mamba_adaptor_b0_shapes.py \
      trained/mamba_adaptor_b0_shapes.safetensors --show-dir outputs"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint file')
    parser.add_argument(
        '--out',
        type=filled,
        metavar='FILE.pkl',
        help='file for the predictions; for mmseg also a folder, for label maps',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation, by tta_model and tta_pipeline of the config '
        '(default: the image and its mirror image)',
    )
    parser.add_argument(
        '--show', action='store_true', help='show the predictions in a window'
    )
    parser.add_argument(
        '--wait-time',
        type=seconds,
        default=2,
        help='seconds to show each image; 0 waits for a key (default: 2)',
    )
    parser.add_argument(
        '--show-dir', type=filled, help='folder for images of the predictions'
    )
    add_common_arguments(parser)
    return parser.parse_args()


def draw(cfg: Config, folder: str | None, show: bool, wait_time: float) -> None:
    """Turn on the toolbox's own drawing of predictions.

    Args:
        cfg: The config, changed in place.
        folder: The folder for the images, if they are to be saved.
        show: Whether to show them in a window.
        wait_time: Seconds to show each.

    Raises:
        InputError: The config has no visualization hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook:
        raise InputError(
            "--show and --show-dir need the toolbox's hook in the config: "
            'default_hooks=dict(visualization=dict(type=...)).'
        )
    if show:
        hook.update(show=True, wait_time=wait_time)
    # mmdet would put a relative path below its log folder.
    folder = folder and os.path.abspath(folder)
    scope = cfg.get('default_scope')
    if scope == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    elif scope == 'mmseg':
        hook.update(draw=True)
        if folder:
            needed(cfg, 'visualizer', '--show-dir').vis_backends = [
                dict(type='LocalVisBackend', img_save_dir=folder)
            ]
    else:
        hook.update(draw=True, test_out_dir=folder)


def check_drawn(dataset: Any) -> None:
    """Check that a hook of a toolbox draws on the images that are tested.

    Those of mmdet and mmseg read a file as 8-bit colors, whatever the config's loader
    does; that of mmpretrain takes what the model is given for such colors.

    Args:
        dataset: The built dataset, or a wrapper of some.

    Raises:
        InputError: It would fail, or draw something else.
    """
    from mmcv import imread  # the hooks need it

    for _, leaf, _ in leaves(dataset, ''):
        if not isinstance(getattr(leaf, 'pipeline', None), CheckedPipeline):
            continue
        info = leaf.get_data_info(0)
        path, size = info.get('img_path'), None
        if not isinstance(path, str) or '://' in path:
            continue
        with contextlib.suppress(Exception):  # of OpenCV: it reads no such file
            size = imread(path).shape[:2]
        loaded = leaf.pipeline.load(info) or {}
        image, shape = loaded.get('img'), loaded.get('ori_shape')
        if image is None or shape is None:
            continue
        takes_input = type(leaf).__module__.startswith('mmpretrain.')
        colors = image.dtype == np.uint8 and image.shape[2:] in ((), (1,), (3,))
        # The image itself may be resized before labels are loaded.
        if not colors if takes_input else tuple(shape[:2]) != size:
            raise InputError(
                f'--show and --show-dir: the hook of the toolbox reads 8-bit colors, '
                f'and {path} has other values or another size as the config loads it. '
                'tools/image_demo.py draws such images.'
            )


def dump_into(cfg: Config, path: str) -> None:
    """Make a test write its predictions.

    Args:
        cfg: The config, changed in place.
        path: A file; or for mmseg a folder, for label maps.

    Raises:
        InputError: The file is not named as a pickle, or the config has no test.
    """
    metrics = needed(cfg, 'test_evaluator', '--out')
    metrics = metrics if isinstance(metrics, list) else [metrics]
    scope = cfg.get('default_scope')
    if path.endswith(('.pkl', '.pickle')):
        # mmdet's own packs masks as run lengths.
        kind = 'DumpDetResults' if scope == 'mmdet' else 'DumpResults'
        metrics = [*metrics, dict(type=kind, out_file_path=path)]
    elif scope == 'mmseg' and not os.path.splitext(path)[1] and metrics:
        metrics[0].update(output_dir=path)
    else:
        raise InputError(
            f'--out {path}: expected a name that ends in .pkl, or for mmseg a folder'
        )
    cfg.test_evaluator = metrics


def augment(cfg: Config) -> None:
    """Turn on test-time augmentation, as the toolboxes' own test tools do.

    Args:
        cfg: The config, changed in place.

    Raises:
        InputError: The config has no `tta_model` and is not of a toolbox.
    """
    wrapper = cfg.get('tta_model') or TTA_MODELS.get(cfg.get('default_scope'))
    if wrapper is None:
        raise InputError(
            '--tta needs tta_model=dict(type=...) in the config, or a default_scope '
            f'of {list(TTA_MODELS)}'
        )
    for dataset in innermost(needed(cfg, 'test_dataloader', '--tta')):
        if not (pipeline := cfg.get('tta_pipeline')):
            if not dataset.get('pipeline'):
                raise InputError('--tta needs a pipeline of each test dataset.')
            pipeline = mirrored(dataset.pipeline)
        dataset.pipeline = pipeline
    if cfg.model.get('data_preprocessor'):
        cfg.pop('data_preprocessor', None)  # it would replace that of the model
    cfg.model = ConfigDict(**wrapper, module=cfg.model)


def mirrored(pipeline: list) -> list:
    """Return a test pipeline that gives each image and its mirror image.

    Args:
        pipeline: The pipeline of the config, which ends with what packs a sample.
    """
    *steps, pack = copy.deepcopy(pipeline)
    pack.pop('meta_keys', None)  # the default ones tell that a sample is flipped
    flips = [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)]
    labels = [step for step in steps if loads_labels(step)]
    return [
        *(step for step in steps if not loads_labels(step)),
        # Labels stay as they are on the disk: merged predictions are not flipped.
        dict(type='TestTimeAug', transforms=[flips, *([x] for x in labels), [pack]]),
    ]


def main() -> None:
    """Test."""
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    shows = args.show or args.show_dir
    if args.show and plt.get_backend().lower() == 'agg':
        raise InputError('--show needs a display, and there is none: use --show-dir.')
    if shows and args.tta and cfg.get('default_scope') == 'mmpretrain':
        raise InputError('--tta: mmpretrain cannot draw augmented images.')
    if shows:
        draw(cfg, args.show_dir, args.show, args.wait_time)
    if args.out:
        dump_into(cfg, args.out)
    if args.tta:
        augment(cfg)
    runner = build_runner(cfg, 'test')
    if shows:
        check_drawn(runner.test_loop.dataloader.dataset)
    if args.show_dir and cfg.get('default_scope') != 'mmpretrain':
        draw_large(runner.visualizer)
    runner.test()


if __name__ == '__main__':
    run(main)
