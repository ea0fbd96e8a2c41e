# SPDX-License-Identifier: Apache-2.0
"""Signed distances of the dataset's outlines, in numpy and in float64.

A distance is in pixels, negative inside. From it come a mask (negative) and an
anti-aliased cover (`cover`), by our own arithmetic: the same on every machine,
which no drawing library promises from one version to the next.
"""

import math
from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]


def turn(angle: float) -> Point:
    """Cosine and sine of an angle in radians, alike with every C library.

    Args:
        angle: The angle, in radians.

    Returns:
        Both, rounded to 9 digits: where libraries differ, they do so in the
        sixteenth.
    """
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def local_grid(
    centre: Point, angle: float, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of a window's pixels in the frame of one shape.

    Args:
        centre: The shape's centre as (x, y), a pixel's centre being an integer.
        angle: How far the shape is turned, in radians.
        rows: The window's rows.
        columns: The window's columns.

    Returns:
        Two arrays `(h, w)`: along the shape's own first and second axis.
    """
    x = np.arange(columns.start, columns.stop) - centre[0]
    y = (np.arange(rows.start, rows.stop) - centre[1])[:, None]
    cos, sin = turn(angle)
    return x * cos + y * sin, y * cos - x * sin


def disc(u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a circle around the origin.

    Args:
        u: First coordinate `(h, w)`.
        v: Second coordinate `(h, w)`.
        radius: The circle's radius.

    Returns:
        The distances `(h, w)`.
    """
    return np.sqrt(u * u + v * v) - radius


def polygon(u: np.ndarray, v: np.ndarray, corners: Sequence[Point]) -> np.ndarray:
    """Signed distance to a simple polygon, convex or not.

    The size is the distance to the nearest edge; the sign says whether a ray
    from the pixel crosses the outline an odd number of times.

    Args:
        u: First coordinate `(h, w)`.
        v: Second coordinate `(h, w)`.
        corners: The corners, in order.

    Returns:
        The distances `(h, w)`.
    """
    nearest = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey = bx - ax, by - ay
        du, dv = u - ax, v - ay
        along = np.clip((du * ex + dv * ey) / (ex * ex + ey * ey), 0, 1)
        ru, rv = du - ex * along, dv - ey * along
        nearest = np.minimum(nearest, ru * ru + rv * rv)
        # Left of an upward edge or right of a downward one: a crossing.
        upward = (ay <= v) & (v < by)
        downward = (by <= v) & (v < ay)
        side = ex * dv - ey * du
        inside ^= (upward & (side > 0)) | (downward & (side < 0))
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def star_corners(points: int, radius: float, inner: float) -> list[Point]:
    """The corners of a star.

    Args:
        points: How many points it has.
        radius: From the centre to a point.
        inner: From the centre to a notch, as a share of `radius`.

    Returns:
        Points and notches in turn.
    """
    corners = []
    for k in range(2 * points):
        cos, sin = turn(math.pi * k / points)
        reach = radius if k % 2 == 0 else radius * inner
        corners.append((reach * cos, reach * sin))
    return corners


def rectangle_corners(half_width: float, half_height: float) -> list[Point]:
    """The corners of a rectangle around the origin.

    Args:
        half_width: Half its extent along the first axis.
        half_height: Half its extent along the second.

    Returns:
        The four corners.
    """
    return [
        (-half_width, -half_height),
        (half_width, -half_height),
        (half_width, half_height),
        (-half_width, half_height),
    ]


def cross_corners(radius: float, arm: float) -> list[Point]:
    """The corners of a plus sign.

    Args:
        radius: From the centre to an arm's end.
        arm: Half an arm's width.

    Returns:
        The twelve corners.
    """
    quarter = [(radius, -arm), (radius, arm), (arm, arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


def cover(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, an edge being a pixel wide.

    Args:
        distance: Signed distances `(h, w)`.

    Returns:
        Shares from 0 to 1, `(h, w)`.
    """
    return np.clip(0.5 - distance, 0, 1)
