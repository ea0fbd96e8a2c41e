# SPDX-License-Identifier: Apache-2.0
"""Checks of files before they are opened: their kind, and the size in the header."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

KINDS = {
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFDIR: 'a folder',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}
# Deflate gives at most 1032 bytes a byte, and a PNG has at most 8 pixels in each. A
# JPEG has at least one bit for each block of 64 pixels.
PIXELS_PER_BYTE = 8 * 1032
LARGE = 2**26  # pixels; fewer take less than 0.2 GB, whatever the file holds
LARGEST = 2**30  # pixels, which OpenCV refuses to exceed


def kind_problem(path: str) -> str:
    """Return why a path must not be opened: reading a pipe or a device may not end.

    Returns:
        A phrase that continues the path. Empty for a regular file, a link to one, and
        what does not exist.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (OSError, ValueError):
        return ''
    return '' if kind == stat.S_IFREG else f'is {KINDS[kind]}, not a regular file'


def image_problem(path: str) -> str:
    """Return why an image must not be loaded.

    libjpeg fills in what a file lacks, so that a JPEG of 1 kB can take 6 GB.

    Returns:
        A phrase that continues the path. Empty if the loader is to decide.
    """
    if problem := kind_problem(path):
        return problem
    try:
        size = os.path.getsize(path)
        if not 0 < size * PIXELS_PER_BYTE < LARGEST:
            return ''
        with opened(path) as image:
            (width, height), kind = image.size, image.format
    except Exception:  # of any plugin of PIL, whose formats are not the loader's
        return ''
    if kind not in ('PNG', 'JPEG') or width * height <= max(
        LARGE, size * PIXELS_PER_BYTE
    ):
        return ''
    return (
        f'is damaged: it claims {width} x {height} pixels (width x height), more than '
        f'its {size} bytes can hold'
    )


@contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """Open an image to read its header, without PIL's limit of 179 megapixels."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(path)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image
