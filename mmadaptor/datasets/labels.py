# SPDX-License-Identifier: Apache-2.0
"""Labels of the `shapes` dataset in the COCO format."""

import numpy as np

from .scene import SIZE

CLASSES = ('columns', 'disc_off', 'disc_on', 'rows', 'star5', 'star6')
PALETTE = [
    (230, 60, 60),
    (60, 80, 220),
    (240, 210, 40),
    (60, 190, 80),
    (220, 80, 220),
    (60, 210, 220),
]
SEGMENTATION_CLASSES = ('background', *CLASSES)
SEGMENTATION_PALETTE = [(0, 0, 0), *PALETTE]


def annotate(visible: np.ndarray, image_id: int, category_id: int) -> dict:
    """Return the COCO annotation of a shape, without its id.

    Args:
        visible: Visible pixels of the shape, boolean `(SIZE, SIZE)`.
        image_id: Id of the image.
        category_id: Id of the class.
    """
    rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
    box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
    return dict(
        image_id=image_id,
        category_id=category_id,
        segmentation=dict(size=[SIZE, SIZE], counts=run_lengths(visible)),
        area=int(visible.sum()),
        bbox=[int(number) for number in box],
        iscrowd=0,
    )


def run_lengths(mask: np.ndarray) -> list[int]:
    """Compute the uncompressed COCO run lengths of a mask.

    Args:
        mask: Boolean `(H, W)`.

    Returns:
        Lengths of the runs of zeros and ones alternately, column by column, starting
        with zeros.
    """
    pixels = np.concatenate([[False], mask.T.ravel()])  # (W * H + 1,)
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    return np.diff(np.concatenate([[0], starts, [mask.size]])).tolist()


def instances(description: str, version: int, labels: list[list[dict]]) -> dict:
    """Return the content of a COCO instance file.

    Args:
        description: Description of the file.
        version: Version of the images.
        labels: Annotations of each image, without ids.
    """
    annotations = [label for image in labels for label in image]
    return dict(
        info=dict(description=description, version=str(version)),
        licenses=[],
        categories=[
            dict(id=k, name=name, supercategory=name.rstrip('56').split('_')[0])
            for k, name in enumerate(CLASSES, 1)
        ],
        images=[
            dict(id=index, file_name=f'{index:06}.png', width=SIZE, height=SIZE)
            for index in range(len(labels))
        ],
        annotations=[dict(label, id=k) for k, label in enumerate(annotations, 1)],
    )
