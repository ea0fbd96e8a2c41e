# SPDX-License-Identifier: Apache-2.0
"""Finds the images whose size may not be the one that their annotation file says."""

from typing import Any

from PIL import ExifTags

from mmadaptor.datasets.image_files import kind_problem, opened

HEADERS = 1000  # so many headers of a dataset are read before the start


def odd_sizes(dataset: Any) -> list[int]:
    """Return the images to load: one for each way in which their headers are odd.

    Whether an image with EXIF data is loaded as it is stored or rotated is up to the
    loader, so that only loading it tells.

    Returns:
        Indices of the first image whose stored size is another, of the first that EXIF
        data turns by 90 degrees, and of the first with both.
    """
    odd: dict[tuple[bool, bool], int] = {}
    for i in range(0, len(dataset), -(-len(dataset) // HEADERS)):
        info = dataset.get_data_info(i)
        size, path = (info.get('height'), info.get('width')), info.get('img_path')
        if None in size or not isinstance(path, str) or kind_problem(path):
            continue
        try:
            with opened(path) as image:
                other = image.size[::-1] != size
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        except Exception:  # of any plugin of PIL, whose formats are not the loader's
            continue
        if other or (turned and size[0] != size[1]):
            odd.setdefault((other, turned), i)
    return list(odd.values())
