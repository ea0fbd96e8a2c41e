# SPDX-License-Identifier: Apache-2.0
"""Pictures whose cue is in no row or column of what it decides, for mmseg.

Each disc has a square lamp at each of its four corners, `REACH` pixels away
along rows and columns. One of them, above on the left unless another is asked
for, says what the disc is, as it is lit or not; the other three, and those of
other discs, mislead. So a pixel of a disc has to look at one place, which a sum
along its row or column does not single out.

`python -m studies.corners NUMBER FILE` writes one.
"""

import argparse

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from mmadaptor.datasets.draw import LAMP_CORE, draw_background, grain
from mmadaptor.datasets.geometry import Point, cover, disc
from mmadaptor.datasets.sampling import between, sample_background
from mmadaptor.datasets.scene import SIZE

CLASSES = ('background', 'disc_off', 'disc_on')
REACH = 24.0  # from a disc's centre to its lamps', along rows and columns
DISC_RADIUS = 6.0
LAMP_RADIUS = 6.0  # half a lamp's side
DISCS_IN_PICTURE = 4  # or fewer, where there is no room
TRIES = 60
RED = (200, 70, 60)


def corners(centre: Point) -> list[Point]:
    """The centres of a disc's lamps.

    Args:
        centre: The disc's, as (x, y) in pixels.

    Returns:
        Above on the left, above on the right, and so below.
    """
    x, y = centre
    return [(x + dx, y + dy) for dy in (-REACH, REACH) for dx in (-REACH, REACH)]


def sample_discs(rng: np.random.Generator) -> list[Point]:
    """Discs that lie apart from each other's lamps.

    Args:
        rng: The source.

    Returns:
        Their centres.
    """
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
    """A picture and what its pixels are.

    Args:
        rng: The source.
        decides: Which of `corners` says what a disc is.

    Returns:
        RGB `(SIZE, SIZE, 3)` and indices into `CLASSES`, `(SIZE, SIZE)`; uint8.
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
    """Such pictures, drawn as they are read.

    Args:
        pictures: How many.
        first: The first one's number.
        pipeline: Begins with `DrawCorners`.
        decides: Which of a disc's lamps says what it is, as `draw` takes it.
    """

    METAINFO = dict(classes=CLASSES, palette=[[0, 0, 0], [60, 80, 220], [240, 210, 40]])

    def __init__(
        self, pictures: int, first: int, pipeline: list[dict], decides: int = 0
    ) -> None:
        self.numbers = range(first, first + pictures)
        self.decides = decides
        super().__init__(pipeline=pipeline)

    def load_data_list(self) -> list[dict]:
        """The pictures' numbers, and what decides in them.

        Returns:
            A dict for each.
        """
        return [dict(number=number, decides=self.decides) for number in self.numbers]


@TRANSFORMS.register_module()
class DrawCorners(LoadImageFromFile):
    """Draws the picture that a sample numbers, and its mask."""

    def transform(self, results: dict) -> dict:
        """Draw, or load a picture that was written to a file.

        Args:
            results: The sample so far.

        Returns:
            The sample with the picture, BGR as mmcv reads them, and the mask
            if it was drawn.
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


def main() -> None:
    """Write a picture to a file."""
    parser = argparse.ArgumentParser(
        prog='python -m studies.corners', description=__doc__
    )
    parser.add_argument('number', type=int)
    parser.add_argument('file', help='such as 2007.png')
    args = parser.parse_args()
    picture, _ = draw(np.random.default_rng(args.number))
    Image.fromarray(picture).save(args.file)


if __name__ == '__main__':
    main()
