# SPDX-License-Identifier: Apache-2.0
"""Finds the images whose size may not be the one that their annotation file says."""

from typing import Any

from PIL import ExifTags, Image

from mmadaptor.datasets.image_files import kind_problem, opened

from .objects import farthest_box, size_in

HEADERS = 1000  # so many headers of a dataset are read before the start


def odd_sizes(dataset: Any) -> list[int]:
    """Return the images to load: one for each way in which their headers are odd.

    Whether an image with EXIF data is loaded as it is stored or rotated is up to the
    loader, so that only loading it tells.

    Returns:
        Indices of the first image of each kind: whether its stored size is another,
        whether EXIF data turns it by 90 degrees, and whether a box is outside of it.
    """
    odd: dict[tuple[bool, bool, bool], int] = {}
    for i in range(0, len(dataset), -(-len(dataset) // HEADERS)):
        info = dataset.get_data_info(i)
        size = size_in(info)
        found = size and _header(info.get('img_path'))
        if not found:
            continue
        stored, turned = found
        other = stored != size
        if other or (turned and size[0] != size[1]):
            outside = farthest_box(info, *stored[:: -1 if turned else 1]) is not None
            odd.setdefault((other, turned, outside), i)
    return list(odd.values())


def is_turned(path: str) -> bool:
    """Return whether EXIF data turns an image by 90 degrees."""
    found = _header(path)
    return found is not None and found[1]


def _header(path: Any) -> tuple[tuple[int, int], bool] | None:
    """Return the stored height and width, and whether EXIF data turns the image.

    Returns None if there is no header that PIL can read.
    """
    if not isinstance(path, str) or kind_problem(path):
        return None
    try:
        with opened(path) as image:
            # A PNG's own `getexif` decodes it, to look for EXIF data at its end.
            exif = Image.Image.getexif(image)
            return image.size[::-1], exif.get(ExifTags.Base.Orientation, 1) > 4
    except Exception:  # of any plugin of PIL, whose formats are not the loader's
        return None
