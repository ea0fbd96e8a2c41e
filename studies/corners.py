# SPDX-License-Identifier: Apache-2.0
"""Synthetic mmseg dataset whose cue shares no row or column with the object.

Each disc has a square lamp at each of its four corners, `REACH` pixels away
along rows and columns. One lamp (by default the upper left) determines the class
of the disc: lit or unlit. The other three lamps and those of other discs are
distractors. A pixel of a disc must therefore attend to a single location, which
a sum along its row or column cannot isolate.

`python -m studies.corners NUMBER FILE` saves one image.
"""

import argparse

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from mmadaptor.arguments import new_file, positive
from mmadaptor.datasets.draw import LAMP_CORE, draw_background, grain
from mmadaptor.datasets.geometry import Point, cover, disc
from mmadaptor.datasets.sampling import between, sample_background
from mmadaptor.datasets.scene import SIZE

CLASSES = ('background', 'disc_off', 'disc_on')
REACH = 24.0  # from the center of a disc to those of its lamps, along rows and columns
DISC_RADIUS = 6.0
LAMP_RADIUS = 6.0  # half the side of a lamp
DISCS_IN_PICTURE = 4  # fewer if there is no room
TRIES = 60
RED = (200, 70, 60)


def corners(centre: Point) -> list[Point]:
    """Return the lamp centers of a disc.

    Args:
        centre: Center of the disc, (x, y) in pixels.

    Returns:
        Upper left, upper right, lower left, lower right.
    """
    x, y = centre
    return [(x + dx, y + dy) for dy in (-REACH, REACH) for dx in (-REACH, REACH)]


def sample_discs(rng: np.random.Generator) -> list[Point]:
    """Sample centers of discs that overlap neither other discs nor any lamps."""
    margin = REACH + LAMP_RADIUS
    apart = DISC_RADIUS + LAMP_RADIUS + 2
    taken: list[Point] = []
    discs = []
    for _ in range(TRIES):
        centre = (
            between(rng, margin, SIZE - 1 - margin),
            between(rng, margin, SIZE - 1 - margin),
        )
        own = [centre, *corners(centre)]
        if len(discs) < DISCS_IN_PICTURE and all(
            max(abs(x - u), abs(y - v)) >= apart for x, y in own for u, v in taken
        ):
            discs.append(centre)
            taken += own
    return discs


def draw(rng: np.random.Generator, decides: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image and its segmentation mask.

    Args:
        rng: Random generator.
        decides: Index in `corners` of the lamp that determines the class of a disc.

    Returns:
        RGB image `(SIZE, SIZE, 3)` and mask `(SIZE, SIZE)` of indices into
        `CLASSES`; both uint8.
    """
    background = sample_background(rng)
    picture = draw_background(background)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    at = np.arange(SIZE)
    for centre in sample_discs(rng):
        x, y = at - centre[0], at[:, None] - centre[1]
        distance = disc(x, y, DISC_RADIUS)
        share = cover(distance)[..., None]
        picture = picture * (1 - share) + share * RED
        lit = [bool(rng.random() < 0.5) for _ in range(4)]
        mask[distance < 0] = CLASSES.index('disc_on' if lit[decides] else 'disc_off')
        for lamp, is_lit in zip(corners(centre), lit, strict=True):
            inside = (abs(at - lamp[0]) <= LAMP_RADIUS) & (
                abs(at[:, None] - lamp[1]) <= LAMP_RADIUS
            )
            picture[inside] = LAMP_CORE[is_lit]
    picture += grain(background.seed)
    return np.floor(np.clip(picture, 0, 255) + 0.5).astype(np.uint8), mask


@DATASETS.register_module()
class Corners(BaseDataset):
    """The dataset of this module, drawn on the fly.

    Args:
        pictures: Number of images.
        first: Number of the first image, which seeds its random generator.
        pipeline: Transforms; the first must be `DrawCorners`.
        decides: Index of the lamp that determines the class; see `draw`.
    """

    METAINFO = dict(classes=CLASSES, palette=[[0, 0, 0], [60, 80, 220], [240, 210, 40]])

    def __init__(
        self, pictures: int, first: int, pipeline: list[dict], decides: int = 0
    ) -> None:
        self.numbers = range(first, first + pictures)
        self.decides = decides
        super().__init__(pipeline=pipeline)

    def load_data_list(self) -> list[dict]:
        """Return a dict with `number` and `decides` for each image."""
        return [dict(number=number, decides=self.decides) for number in self.numbers]


@TRANSFORMS.register_module()
class DrawCorners(LoadImageFromFile):
    """Draws the image with a sample's number, and its mask."""

    def transform(self, results: dict) -> dict:
        """Draw the image, or load it from a file.

        Args:
            results: Sample with `number` and `decides`, or with `img_path`.

        Returns:
            The sample with the image (BGR, as mmcv reads it) and, if the image was
            drawn, its mask.
        """
        if 'number' not in results:
            return super().transform(results)
        picture, mask = draw(
            np.random.default_rng(results['number']), results['decides']
        )
        return dict(
            results,
            img=np.ascontiguousarray(picture[..., ::-1]),
            gt_seg_map=mask,
            seg_fields=['gt_seg_map'],
            img_path=f'{results["number"]:06}',
            img_shape=mask.shape,
            ori_shape=mask.shape,
        )


def seed(text: str) -> int:
    """Parse the seed of an image."""
    return positive(text) if text != '0' else 0


def main() -> None:
    """Save one image."""
    parser = argparse.ArgumentParser(
        prog='python -m studies.corners', description=__doc__
    )
    parser.add_argument('number', type=seed, help='seed of the image')
    parser.add_argument('file', type=new_file, help='output file, e.g. 2007.png')
    args = parser.parse_args()
    picture, _ = draw(np.random.default_rng(args.number))
    Image.fromarray(picture).save(args.file)


if __name__ == '__main__':
    main()
