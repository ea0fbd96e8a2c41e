# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mmadaptor.datasets.geometry import (
    cover,
    cross_corners,
    disc,
    local_grid,
    polygon,
    rectangle_corners,
    star_corners,
)


def at(*points):
    """Return the coordinates of points as the distance functions take them."""
    u, v = np.array(points, float).T
    return u[None], v[None]


def area(corners):
    x, y = np.array(corners).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_distances_to_a_circle():
    found = disc(*at((0, 0), (3, 4), (0, -7)), radius=5.0)
    np.testing.assert_allclose(found, [[-5, 0, 2]])


def test_distances_to_a_rectangle():
    found = polygon(
        *at((0, 0), (3, 0), (4, 4), (1, 1.5), (-5, 0)), rectangle_corners(2.0, 1.0)
    )
    np.testing.assert_allclose(found, [[-1, 1, np.hypot(2, 3), 0.5, 3]])


def test_distances_to_an_outline_that_is_not_convex():
    notch, arm = at((3, 3), (3, 0)), at((0, 3.5))
    corners = cross_corners(4.0, 1.0)
    np.testing.assert_allclose(polygon(*notch, corners), [[2, -1]])
    np.testing.assert_allclose(polygon(*arm, corners), [[-0.5]])


@pytest.mark.parametrize(
    'corners',
    [
        star_corners(5, 9.2, 0.5),
        star_corners(6, 9.2, 0.5),
        cross_corners(9.0, 3.3),
        rectangle_corners(7.3, 4.6),
    ],
)
@pytest.mark.parametrize('angle', [0.0, 0.7])
def test_the_pixels_inside_are_as_many_as_the_area(corners, angle):
    grid = local_grid((20.3, 19.6), angle, slice(0, 40), slice(0, 40))
    distance = polygon(*grid, corners)
    assert cover(distance).sum() == pytest.approx(area(corners), rel=0.01)
    assert (distance < 0).sum() == pytest.approx(area(corners), rel=0.08)


def test_a_grid_turns_around_its_center():
    window = slice(0, 3), slice(1, 5)
    u, v = local_grid((2.0, 1.0), 0.0, *window)
    np.testing.assert_allclose(np.broadcast_to(u, (3, 4)), [[-1, 0, 1, 2]] * 3)
    np.testing.assert_allclose(np.broadcast_to(v, (3, 4)), np.array([[-1, 0, 1]] * 4).T)
    turned_u, turned_v = local_grid((2.0, 1.0), np.pi / 2, *window)
    np.testing.assert_allclose(turned_u, np.broadcast_to(v, (3, 4)), atol=1e-8)
    np.testing.assert_allclose(turned_v, np.broadcast_to(-u, (3, 4)), atol=1e-8)


def test_cover_of_an_edge():
    np.testing.assert_allclose(
        cover(np.array([-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 2.0])),
        [1, 1, 0.75, 0.5, 0.25, 0, 0],
    )
