# SPDX-License-Identifier: Apache-2.0
"""Draw predictions for images: boxes and masks, classes of pixels, or a label."""

import argparse
import contextlib
import glob
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import VISUALIZERS
from mmengine.visualization import Visualizer
from rich.progress import track

from mmadaptor.arguments import filled, fraction, parser_of
from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.datasets.image_files import image_problem
from mmadaptor.datasets.image_reader import ImageReader
from mmadaptor.engine.command_line import add_config_options, read_config, run
from mmadaptor.engine.preflight.datasets import build_lazily
from mmadaptor.errors import InputError, as_input_error, described, how_to_install
from mmadaptor.toolbox_code import innermost
from mmadaptor.visualization.enlarge import draw_large, enlarge

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
DRAWN_AS = ('.jpg', '.jpeg', '.png')  # images of other formats are drawn as PNG
VISUALIZERS_OF = dict(
    mmdet='DetLocalVisualizer',
    mmseg='SegLocalVisualizer',
    mmpretrain='UniversalVisualizer',
)
EXAMPLE = r"""python tools/image_demo.py trained/disc_on.png \
      configs/mamba_adaptor_b0_shapes.py \
      trained/mamba_adaptor_b0_shapes.safetensors"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGE',
        help='image, folder of images, or pattern such as "data/**/*.jpg"',
    )
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint file')
    parser.add_argument(
        '--out-dir',
        type=filled,
        default='outputs',
        help='folder for the drawings (default: outputs)',
    )
    parser.add_argument(
        '--score-thr',
        type=fraction,
        default=0.3,
        help='lowest score of a box that is drawn, from 0 to 1 (default: 0.3)',
    )
    parser.add_argument(
        '--device',
        default=get_device(),
        help='such as cuda:1 (default: an accelerator, if there is one)',
    )
    add_config_options(parser)
    return parser.parse_args()


def find_images(sources: Sequence[str]) -> list[str]:
    """Find the images that files, folders and patterns name, each once.

    Args:
        sources: Files, folders and patterns. Of a folder, files with one of
            `EXTENSIONS` are taken.

    Returns:
        The paths.

    Raises:
        InputError: A source names nothing.
    """
    images = []
    for source in sources:
        found = [source]
        if os.path.isdir(source):
            names = sorted(os.listdir(source))
            found = [
                os.path.join(source, n) for n in names if n.lower().endswith(EXTENSIONS)
            ]
            if len(found) < len(names):
                print(
                    f'{source}: {len(names) - len(found)} files and folders left '
                    f'out, which do not end in {", ".join(EXTENSIONS)}'
                )
        elif not os.path.lexists(source):
            found = [
                path
                for path in sorted(glob.glob(source, recursive=True))
                if not os.path.isdir(path)
            ]
        if not found:
            raise InputError(
                f'{source}: expected an image, a folder of images or a pattern '
                'that matches some, found none.'
            )
        images += found
    return list({os.path.abspath(image): image for image in images}.values())


def drawings_for(images: Sequence[str], out_dir: str) -> list[str]:
    """Choose a file for the drawing of each image.

    Args:
        images: The paths.
        out_dir: The folder for all drawings.

    Returns:
        A file for each, in folders laid out as those of the images.

    Raises:
        InputError: An image is inside `out_dir`, where a drawing could replace
            it.
    """
    paths = [os.path.abspath(image) for image in images]
    above = os.path.commonpath([os.path.dirname(path) for path in paths])
    out = os.path.realpath(out_dir) + os.sep
    drawings: dict[str, None] = {}
    for image, path in zip(images, paths, strict=True):
        if os.path.realpath(path).startswith(out):
            raise InputError(
                f'{image} is inside {out_dir}, where its drawing '
                'could replace it: give another --out-dir.'
            )
        below = os.path.relpath(os.path.dirname(path), above)
        folder = os.path.normpath(os.path.join(out_dir, below, 'vis'))
        stem, extension = os.path.splitext(os.path.basename(path))
        if extension.lower() not in DRAWN_AS:
            extension = '.png'
        while (drawing := os.path.join(folder, f'{stem}{extension}')) in drawings:
            stem += '_'
        drawings[drawing] = None
    return list(drawings)


def build(cfg: Config, args: argparse.Namespace) -> Callable[[str, str], None]:
    """Build the model, with strictly loaded weights, and what draws its results.

    Args:
        cfg: The config.
        args: The arguments.

    Returns:
        A function that draws an image into a file.

    Raises:
        InputError: The config is not of a toolbox, or the checkpoint does not
            fit.
    """
    scope = cfg.get('default_scope')
    if missing := how_to_install(scope):
        raise InputError(f'{args.config} needs {missing}')
    model = build_and_load(cfg, args.checkpoint).to(args.device).eval()
    with as_input_error('test_dataloader` or `visualizer'):
        read = ImageReader(cfg)
        visualizer = build_visualizer(cfg, model.dataset_meta)

    @torch.no_grad()
    def draw(image: str, drawing: str) -> None:
        visible = read.visible(image)
        result = model.test_step(pseudo_collate([read(image)]))[0].cpu()
        out = dict(draw_gt=False, out_file=drawing)
        os.makedirs(os.path.dirname(drawing), exist_ok=True)
        if scope == 'mmpretrain':
            visualizer.visualize_cls(enlarge(visible), result, **out)
            return
        if scope == 'mmdet':
            out['pred_score_thr'] = args.score_thr
        visualizer.add_datasample(image, visible, result, **out)

    return draw


def build_visualizer(cfg: Config, meta: dict) -> Visualizer:
    """Build the visualizer of a config, which draws small images large.

    Args:
        cfg: The config.
        meta: Classes and palette, as the checkpoint has them. What it lacks is that of
            the config's dataset.
    """
    settings = dict(cfg.get('visualizer') or {})
    settings.setdefault('type', VISUALIZERS_OF[cfg.default_scope])
    # Visualizers of a name are one, and this one writes files only.
    settings.update(name=f'image_demo_{time.time_ns()}', vis_backends=None)
    visualizer = VISUALIZERS.build(settings)
    meta = {str(key).lower(): value for key, value in meta.items() if value}
    if not meta.keys() >= {'classes', 'palette'}:
        known = build_lazily(innermost(cfg.test_dataloader)[0]).metainfo
        meta = {**known, **meta}
    visualizer.dataset_meta = meta
    draw_large(visualizer)
    return visualizer


@contextlib.contextmanager
def limited_memory(device: str) -> Iterator[None]:
    """Limit memory to what is free: a large image fails alone, and is named.

    Without it, Linux ends the process. An accelerator maps more than it uses, so that
    this is for the CPU only.
    """
    sizes = {}
    for path in ('/proc/meminfo', '/proc/self/status'):
        with contextlib.suppress(OSError), open(path) as file:
            sizes |= {line.split()[0]: line.split()[-2:] for line in file}
    names = 'MemAvailable:', 'VmData:'
    if torch.device(device).type != 'cpu' or not sizes.keys() >= {*names}:
        yield
        return
    free = 1024 * sum(int(sizes[name][0]) for name in names)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [size for size in (soft, hard) if size != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([free, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def main() -> None:
    """Draw; images that fail are listed at the end and stop nothing."""
    args = parse_args()
    try:
        torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(
            f'--device {args.device}: expected a device of this '
            f'machine, such as {get_device()}.'
        ) from error
    cfg = read_config(args.config, args.cfg_options)
    if cfg.get('default_scope') not in VISUALIZERS_OF:
        raise InputError(
            f'{args.config}: `default_scope` must be one of '
            f'{list(VISUALIZERS_OF)}, got {cfg.get("default_scope")!r}.'
        )
    images = find_images(args.images)
    jobs = list(zip(images, drawings_for(images, args.out_dir), strict=True))
    draw = build(cfg, args)
    failures = []
    with limited_memory(args.device):
        for image, drawing in track(jobs, description='Images'):
            if problem := image_problem(image):
                failures.append(f'{image}: {problem}')
                continue
            try:
                draw(image, drawing)
            except Exception as error:  # of any decoder, transform or layer
                failures.append(f'{image}: {described(error).splitlines()[0]}')
    print(
        f'{len(jobs) - len(failures)} of {len(jobs)} images were drawn into '
        f'{args.out_dir}'
    )
    if failures:
        raise InputError(
            f'{len(failures)} images could not be drawn:\n  ' + '\n  '.join(failures)
        )


if __name__ == '__main__':
    run(main)
