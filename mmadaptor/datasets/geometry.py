# SPDX-License-Identifier: Apache-2.0
"""Signed distances to the outlines of the dataset, in numpy and float64.

Distances are in pixels, negative inside a shape. A mask is where the distance is
negative, and `cover` gives anti-aliased coverage. The arithmetic is our own, because no
drawing library guarantees the same pixels on every machine and in every version.
"""

import math
from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]


def turn(angle: float) -> Point:
    """Return cosine and sine of an angle in radians.

    They are rounded to 9 digits, because C libraries differ in the 16th digit.
    """
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def local_grid(
    center: Point, angle: float, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the coordinates of the pixels of a window in the frame of a shape.

    Args:
        center: Center of the shape as (x, y). Pixel centers are integers.
        angle: Rotation of the shape, in radians.
        rows: Rows of the window.
        columns: Columns of the window.

    Returns:
        Two arrays `(h, w)`: coordinates along the first and second axis of the shape.
    """
    x = np.arange(columns.start, columns.stop) - center[0]
    y = (np.arange(rows.start, rows.stop) - center[1])[:, None]
    cos, sin = turn(angle)
    return x * cos + y * sin, y * cos - x * sin


def disc(u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Compute signed distances `(h, w)` to a circle around the origin."""
    return np.sqrt(u * u + v * v) - radius


def polygon(u: np.ndarray, v: np.ndarray, corners: Sequence[Point]) -> np.ndarray:
    """Compute signed distances to a simple polygon, convex or not.

    The magnitude is the distance to the nearest edge. The sign is negative if a ray
    from the pixel crosses the outline an odd number of times.

    Args:
        u: First coordinate `(h, w)`.
        v: Second coordinate `(h, w)`.
        corners: Corners in order.

    Returns:
        Distances `(h, w)`.
    """
    nearest = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey = bx - ax, by - ay
        du, dv = u - ax, v - ay
        along = np.clip((du * ex + dv * ey) / (ex * ex + ey * ey), 0, 1)
        ru, rv = du - ex * along, dv - ey * along
        nearest = np.minimum(nearest, ru * ru + rv * rv)
        # The ray crosses the edge if the pixel is left of an upward edge or right of
        # a downward one.
        upward = (ay <= v) & (v < by)
        downward = (by <= v) & (v < ay)
        side = ex * dv - ey * du
        inside ^= (upward & (side > 0)) | (downward & (side < 0))
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def star_corners(points: int, radius: float, inner: float) -> list[Point]:
    """Return the corners of a star around the origin.

    Args:
        points: Number of points.
        radius: Distance of the points from the center.
        inner: Distance of the notches from the center, relative to `radius`.

    Returns:
        Points and notches alternately.
    """
    corners = []
    for k in range(2 * points):
        cos, sin = turn(math.pi * k / points)
        reach = radius if k % 2 == 0 else radius * inner
        corners.append((reach * cos, reach * sin))
    return corners


def rectangle_corners(half_width: float, half_height: float) -> list[Point]:
    """Return the four corners of a rectangle around the origin."""
    return [
        (-half_width, -half_height),
        (half_width, -half_height),
        (half_width, half_height),
        (-half_width, half_height),
    ]


def cross_corners(radius: float, arm: float) -> list[Point]:
    """Return the twelve corners of a plus sign around the origin.

    Args:
        radius: Distance of the ends of the arms from the center.
        arm: Half the width of an arm.
    """
    quarter = [(radius, -arm), (radius, arm), (arm, arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


def cover(distance: np.ndarray) -> np.ndarray:
    """Compute the coverage of each pixel by a shape.

    An edge is one pixel wide.

    Args:
        distance: Signed distances `(h, w)`.

    Returns:
        Coverage from 0 to 1, `(h, w)`.
    """
    return np.clip(0.5 - distance, 0, 1)
