# SPDX-License-Identifier: Apache-2.0
"""Predictions for single pictures, by the toolboxes' own inferencers."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.infer import BaseInferencer
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from PIL import Image

from mmadaptor.checkpoints.adaptor_only import complete
from mmadaptor.checkpoints.strict import load_strict, weights_of
from mmadaptor.errors import InputError

from ..visualization.enlarge import draw_large
from .loading import GuardedLoading, unguard_loading

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
VISUALIZERS = dict(
    mmdet=dict(type='DetLocalVisualizer'),
    mmseg=dict(type='SegLocalVisualizer', alpha=0.5),
)
# A smaller picture would be hidden by the names that are written into it.
ROOM_FOR_NAMES = 256


def find_pictures(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    """The pictures that files, folders and patterns name.

    Args:
        sources: Files; folders, whose pictures are taken by their endings;
            patterns such as `'data/**/*.jpg'`.

    Returns:
        The paths, each once, and a sentence on whatever was left out.

    Raises:
        InputError: A source names nothing.
    """
    pictures, notes = [], []
    for source in sources:
        if os.path.isdir(source):
            names = sorted(os.listdir(source))
            found = [n for n in names if n.lower().endswith(EXTENSIONS)]
            others = [n for n in names if n not in found]
            if others:
                notes.append(
                    f'{source}: {len(others)} left out that do not end in '
                    f'{", ".join(EXTENSIONS)}: {", ".join(others[:3])}'
                )
            found = [os.path.join(source, n) for n in found]
        elif os.path.isfile(source):
            found = [source]
        else:
            found = [
                p
                for p in sorted(glob.glob(source, recursive=True))
                if os.path.isfile(p)
            ]
        if not found:
            raise InputError(
                f'{source}: expected a picture, a folder of pictures or a '
                'pattern that matches some, found none.'
            )
        pictures += found
    return list(dict.fromkeys(pictures)), notes


def places_for(pictures: Sequence[str], folder: str) -> list[str]:
    """Where the drawn pictures go: PNG files, in the order of their folders.

    Args:
        pictures: The paths.
        folder: The folder for all.

    Returns:
        A path for each.

    Raises:
        InputError: A drawing would replace a picture.
    """
    above = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in pictures])
    places: dict[str, None] = {}
    for picture in pictures:
        place = os.path.join(folder, os.path.relpath(os.path.abspath(picture), above))
        while not place.endswith('.png') or place in places:
            place += '.png'
        places[place] = None
    originals = {os.path.realpath(p) for p in pictures}
    for place in places:
        if os.path.realpath(place) in originals:
            raise InputError(
                f'{place} is one of the pictures, and its drawing would '
                'replace it: name another --out-dir.'
            )
    return list(places)


class Demo:
    """A model that draws what it sees in a picture.

    Args:
        cfg: The config of a model of mmdet, mmseg or mmpretrain.
        checkpoint: Its checkpoint; read weights-only, and strictly. One of
            adaptors alone is completed with its base.
        device: Where it runs; default: an accelerator if there is one.
        score_thr: Boxes of lower scores are not drawn.

    Raises:
        InputError: The config is of no toolbox, or the checkpoint does not
            fit.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        device: str | None = None,
        score_thr: float = 0.3,
    ) -> None:
        self.scope = cfg.get('default_scope')
        self.score_thr = score_thr
        unguard_loading(cfg)  # the inferencers look for the loader itself
        if self.scope in VISUALIZERS:
            # Nothing but the pictures is to be written.
            cfg.visualizer = {
                **VISUALIZERS[self.scope],
                **cfg.get('visualizer', {}),
                'vis_backends': None,
            }
        self.inferencer = _inferencer(
            cfg, self.scope, checkpoint, device or get_device()
        )
        # The inferencer took what fits and left the rest as it was.
        content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        complete(self.inferencer.model, content, checkpoint)
        load_strict(
            self.inferencer.model,
            {
                re.sub(r'^module\.', '', name): value
                for name, value in weights_of(content, checkpoint).items()
            },
            checkpoint,
        )
        if self.scope == 'mmdet':
            draw_large(self.inferencer.visualizer)
        self.read = GuardedLoading(dict(type='mmcv.LoadImageFromFile'))

    def draw(self, picture: str, place: str) -> None:
        """Draws the predictions for a picture.

        Args:
            picture: The picture's path.
            place: Where the drawing goes.

        Raises:
            InputError: The picture cannot be read, or is of no size that the
                model can take.
        """
        image = self.read(dict(img_path=picture))['img']
        os.makedirs(os.path.dirname(place) or '.', exist_ok=True)
        try:
            self._draw(image, picture, place)
        except (RuntimeError, ValueError, ZeroDivisionError, cv2.error) as error:
            height, width = image.shape[:2]
            raise InputError(
                f'{picture} ({height} x {width} pixels) cannot be processed: '
                f'{type(error).__name__}: {error}'
            ) from error

    def _draw(self, image: np.ndarray, picture: str, place: str) -> None:
        result = self.inferencer(image, return_datasamples=True)
        shown = dict(draw_gt=False, out_file=place)
        rgb = np.ascontiguousarray(image[..., ::-1])
        visualizer = self.inferencer.visualizer
        if self.scope == 'mmdet':
            visualizer.add_datasample(
                picture,
                rgb,
                result['predictions'][0],
                pred_score_thr=self.score_thr,
                **shown,
            )
        elif self.scope == 'mmseg':
            visualizer.add_datasample(
                picture,
                rgb,
                result,
                with_labels=min(rgb.shape[:2]) >= ROOM_FOR_NAMES,
                **shown,
            )
        else:
            visualizer.visualize_cls(
                rgb,
                result[0],
                classes=self.inferencer.classes,
                resize=max(ROOM_FOR_NAMES, min(rgb.shape[:2])),
                **shown,
            )


def check_device(name: str) -> None:
    """Refuses a device that this machine does not have.

    Args:
        name: Such as `'cpu'` or `'cuda:1'`.

    Raises:
        InputError: Nothing can be put there.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(
            f'--device {name}: expected a device of this machine, '
            f'such as {get_device()}: {explain(error)}'
        ) from error


def _inferencer(
    cfg: Config, scope: str | None, checkpoint: str, device: str
) -> BaseInferencer:
    """The toolbox's inferencer, with a visualizer that knows the classes."""
    if scope == 'mmdet':
        from mmdet.apis import DetInferencer

        return DetInferencer(cfg, checkpoint, device, show_progress=False)
    if scope == 'mmseg':
        from mmseg.apis import MMSegInferencer

        inferencer = MMSegInferencer(
            cfg, checkpoint, device=device, show_progress=False
        )
        inferencer.visualizer.set_dataset_meta(**inferencer.model.dataset_meta)
        return inferencer
    if scope == 'mmpretrain':
        from mmpretrain import ImageClassificationInferencer
        from mmpretrain.visualization import UniversalVisualizer

        DefaultScope.get_instance(scope, scope_name=scope)
        inferencer = ImageClassificationInferencer(cfg, checkpoint, device)
        inferencer.visualizer = UniversalVisualizer()
        return inferencer
    raise InputError(
        f"The config's default_scope is {scope!r}; expected 'mmdet', 'mmseg' "
        "or 'mmpretrain'."
    )


def conversions(pictures: Sequence[str]) -> Iterator[str]:
    """Says which pictures are not of 8-bit RGB, and how they are read.

    Args:
        pictures: The paths; what is no picture is left to its reader.

    Yields:
        A sentence for each other kind.
    """
    kinds: dict[str, list[str]] = {}
    for picture in pictures:
        try:
            with Image.open(picture) as image:
                if image.mode != 'RGB':
                    kinds.setdefault(image.mode, []).append(picture)
        except (OSError, SyntaxError):
            continue
    for mode, found in kinds.items():
        yield (
            f'{len(found)} pictures of mode {mode} are read as 8-bit RGB '
            f'(first: {found[0]})'
        )


def explain(error: Any) -> str:
    """An error's first line, as a summary shows it.

    Args:
        error: The error.

    Returns:
        The line.
    """
    return str(error).strip().split('\n')[0]
