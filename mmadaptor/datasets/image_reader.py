# SPDX-License-Identifier: Apache-2.0
"""Single images, read as the test of a config reads them, and made visible."""

import os

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose

from mmadaptor.errors import InputError
from mmadaptor.toolbox_code import innermost

from .checked_pipeline import CheckedPipeline

LABEL_LOADERS = ('Annotation', 'Label')


def loads_labels(step: dict) -> bool:
    """Return whether a transform of a config loads labels."""
    return any(word in str(step['type']) for word in LABEL_LOADERS)


class ImageReader:
    """Runs the test pipeline of a config on single images.

    The config's own loader reads them: any number of channels, any depth.

    Args:
        cfg: The config. Transforms that load labels are left out of its pipeline.

    Raises:
        InputError: The config has no test pipeline, or several.
    """

    def __init__(self, cfg: Config) -> None:
        datasets = innermost(cfg.get('test_dataloader'))
        pipelines = [d['pipeline'] for d in datasets if d.get('pipeline')]
        if not pipelines or any(pipe != pipelines[0] for pipe in pipelines):
            raise InputError(
                f'{cfg.filename}: expected a test_dataloader with one pipeline, which '
                f'is needed to read images, got {"several" if pipelines else "none"}.'
            )
        steps = [step for step in pipelines[0] if not loads_labels(step)]
        self.pipeline = CheckedPipeline(Compose(steps))
        # These loaders keep the order of the file; OpenCV's is BGR.
        self.bgr = not any(
            step.get('imdecode_backend') == 'tifffile' or 'RSImage' in str(step['type'])
            for step in steps
        )

    def __call__(self, path: str) -> dict:
        """Read an image for the network.

        Raises:
            InputError: The file does not exist or is not an image.
        """
        return self.pipeline(self._sample(path))

    def visible(self, path: str) -> np.ndarray:
        """Read an image for the eye, at its full size.

        Returns:
            `(H, W, 3)`, RGB, uint8.

        Raises:
            InputError: The file does not exist or is not an image.
        """
        loaded = self.pipeline.load(self._sample(path)) or {}
        if 'img' not in loaded:
            raise InputError(f'{path}: the test pipeline of the config loads no image.')
        return as_visible(loaded['img'], self.bgr)

    @staticmethod
    def _sample(path: str) -> dict:
        if not os.path.lexists(path):
            raise InputError(f'{path}: no such image file.')
        return dict(img_path=path, img_id=0)


def as_visible(image: np.ndarray, bgr: bool) -> np.ndarray:
    """Make an image with any channels and values visible.

    Args:
        image: `(H, W)` or `(H, W, C)`. With more than three channels, the first three
            are taken; with one or two, the first. Values that are not those of 8 bits
            are scaled from their range.
        bgr: Whether the first three channels are blue, green and red.

    Returns:
        `(H, W, 3)`, RGB, uint8.
    """
    image = image.reshape(*image.shape[:2], -1)
    if image.shape[2] < 3:
        image = image[..., :1].repeat(3, axis=2)
    image = image[..., 2::-1] if bgr else image[..., :3]
    if image.dtype == np.uint8:
        return image.copy()
    image = image.astype(np.float64)
    finite = image[np.isfinite(image)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    image = np.nan_to_num(image, nan=low, posinf=high, neginf=low)
    if low < 0 or not 1 < high <= 255:
        image = (image - low) * (255 / (high - low or 1.0))
    return image.round().astype(np.uint8)
