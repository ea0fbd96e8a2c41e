# SPDX-License-Identifier: Apache-2.0
"""Trees in aerial photographs with boxes, in the COCO format.

Each of the pictures belongs to one split and is cut into tiles of at most 256 pixels:

- `train`: tiles of 256 x 256 pixels every 128 pixels; the last tile of a row or column
  ends at the border. A crown of up to 128 pixels lies in one tile as a whole.
- `val`, `test`: the smallest number of equal tiles, without overlap, so that no tree
  counts twice.

A box is clipped to its tile. If less than half of its area is in the tile, it is an
ignored region (`iscrowd`): neither a miss nor a false alarm.

    images/{train,val,test}/PICTURE_ROW_COLUMN.png    the tiles, named by picture and
                                                      upper left corner
    annotations/instances_{train,val,test}.json       their boxes
    trees.json                                        the stamp (see `stamped_folder`)
"""

import itertools
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .packages import Package
from .real import RealDataset

SIZE = 256  # of a tile
STEP = 128  # between training tiles
FOLDER = 'deepforest/data'
TRAIN = '2019_YELL_2_528000_4978000_image_crop2'
TEST = '2019_YELL_2_541000_4977000_image_crop'
# Picture and boxes. `val` is of two other sites than `train` and `test`.
PICTURES = {
    'train': [(f'{TRAIN}.png', f'{TRAIN}.xml')],
    'val': [('OSBS_029.png', 'OSBS_029.xml'), ('SOAP_061.png', 'SOAP_061.xml')],
    'test': [(f'{TEST}.png', f'{TEST}.xml')],
}
SHA256 = {
    f'{TRAIN}.png': 'a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767',
    f'{TRAIN}.xml': 'bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11',
    f'{TEST}.png': '178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131',
    f'{TEST}.xml': 'cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631',
    'OSBS_029.png': 'd9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee',
    'OSBS_029.xml': '1f68c4011d7b351c29ca755072e77f3d16e6fd1f995bd05a9dd4eb952b55373c',
    'SOAP_061.png': '256508f1a62149bec4a80879077a865caf50e8cace095e6564c76befa480d424',
    'SOAP_061.xml': '4833280af75fd9c47965a93e38945282835e9e725cac412bdb9469d63480947c',
}


class Box(NamedTuple):
    """A box in pixels; `right` and `bottom` are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Area in pixels; 0 if the box is empty."""
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)

    def within(self, frame: 'Box') -> 'Box':
        """Return the part of the box inside another."""
        return Box(
            max(self.left, frame.left),
            max(self.top, frame.top),
            min(self.right, frame.right),
            min(self.bottom, frame.bottom),
        )


def read_boxes(content: bytes) -> list[Box]:
    """Read the boxes of a Pascal VOC file."""
    return [
        Box(*(float(found.findtext(side)) for side in ('xmin', 'ymin', 'xmax', 'ymax')))
        for found in ElementTree.fromstring(content).iter('bndbox')
    ]


def overlapping(length: int) -> list[tuple[int, int]]:
    """Return start and end of the training tiles along a side of a picture."""
    last = max(length - SIZE, 0)
    starts = [*range(0, last, STEP), last]
    return [(start, min(start + SIZE, length)) for start in starts]


def separate(length: int) -> list[tuple[int, int]]:
    """Return start and end of the fewest equal tiles along a side of a picture."""
    count = -(-length // SIZE)
    edges = [round(i * length / count) for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def label(box: Box, tile: Box) -> dict | None:
    """Return the COCO annotation of a box in a tile without ids; None if outside."""
    seen = box.within(tile)
    if not seen.area:
        return None
    return dict(
        category_id=1,
        bbox=[
            seen.left - tile.left,
            seen.top - tile.top,
            seen.right - seen.left,
            seen.bottom - seen.top,
        ],
        area=seen.area,
        iscrowd=int(2 * seen.area < box.area),
    )


def write_split(
    root: Path, split: str, pictures: Mapping[str, tuple[np.ndarray, list[Box]]]
) -> None:
    """Write tiles and annotations of one split.

    Args:
        root: Folder to write to.
        split: `'train'`, `'val'` or `'test'`.
        pictures: By name, pixels `(H, W, 3)` as OpenCV orders them, and boxes.
    """
    tiles = overlapping if split == 'train' else separate
    folder = root / 'images' / split
    folder.mkdir(parents=True)
    images, annotations = [], []
    for name, (pixels, boxes) in pictures.items():
        height, width = pixels.shape[:2]
        whole = Box(0, 0, width, height)
        boxes = [box.within(whole) for box in boxes]
        for (top, bottom), (left, right) in itertools.product(
            tiles(height), tiles(width)
        ):
            image = dict(
                id=len(images),
                file_name=f'{name}_{top}_{left}.png',
                width=right - left,
                height=bottom - top,
            )
            encoded = cv2.imencode('.png', pixels[top:bottom, left:right])[1]
            (folder / image['file_name']).write_bytes(encoded.tobytes())
            images.append(image)
            for box in boxes:
                if found := label(box, Box(left, top, right, bottom)):
                    ids = dict(id=len(annotations) + 1, image_id=image['id'])
                    annotations.append(ids | found)
    content = dict(
        images=images, annotations=annotations, categories=[dict(id=1, name='tree')]
    )
    file = root / 'annotations' / f'instances_{split}.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def write(contents: Mapping[str, bytes], root: Path) -> None:
    """Write the dataset.

    Args:
        contents: The files of the package.
        root: Folder to write to.
    """
    for split, names in PICTURES.items():
        pictures = {}
        for picture, boxes in names:
            pixels = np.frombuffer(contents[f'{FOLDER}/{picture}'], np.uint8)
            pictures[Path(picture).stem] = (
                cv2.imdecode(pixels, cv2.IMREAD_COLOR),
                read_boxes(contents[f'{FOLDER}/{boxes}']),
            )
        write_split(root, split, pictures)


TREES = RealDataset(
    'trees',
    1,
    Package(
        'pip',
        'deepforest==2.1.0',
        {f'{FOLDER}/{name}': digest for name, digest in SHA256.items()},
        'MIT, copyright 2019 Ben Weinstein',
    ),
    write,
)
