# SPDX-License-Identifier: Apache-2.0
"""Figures of the memory and the receptive field of a token, by matplotlib."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mmadaptor.models.record import Lattice, Record, directions

from .decay import decay_maps
from .receptive_field import radius_of

INCHES, DOT = 3.2, 300
COLOR = '#d1495b'
# Smaller values of a field, relative to the largest one, are clipped.
FLOOR = 1e-6
# Minimum number of tokens drawn on each side of a token.
AROUND = 3
# Places with a smaller weight may be outside the drawn square.
LEAST = 0.05


@dataclass
class Scene:
    """A token of the map of a block, and its position on the image.

    Args:
        record: Record of the block.
        image: Image as resized for the network, before padding, `(H, W, 3)`, RGB.
        lattice: Positions of the tokens of the map on the image.
        token: Row and column on the map of the block.
    """

    record: Record
    image: np.ndarray
    lattice: Lattice
    token: tuple[int, int]

    def on_image(self, places: np.ndarray) -> np.ndarray:
        """Convert positions on the map to positions on the image.

        Args:
            places: `(..., 2)`, (row, column) in tokens.

        Returns:
            `(..., 2)`, (row, column) in pixels of the image.
        """
        return places * self.lattice.stride + self.lattice.first

    @property
    def here(self) -> np.ndarray:
        """The row and column of the token on the image."""
        return self.on_image(np.array(self.token))

    @property
    def places(self) -> np.ndarray:
        """The places of the token on the image, `(K, S, P, 2)`."""
        locations = self.record.locations[(0, *self.token)]
        return self.on_image(locations.cpu().numpy())

    @property
    def reach(self) -> float:
        """Half the side of the square that is drawn around the token, in pixels.

        The square holds `AROUND` tokens on each side, and all places whose weight is at
        least `LEAST`, or 1 / P if that is less.
        """
        weights = self.record.weights[(0, *self.token)].cpu().numpy()
        matter = weights >= min(LEAST, 1 / weights.shape[-1])
        farthest = np.abs(self.places - self.here)[matter].max()
        return float(max(1.3 * farthest, AROUND * self.lattice.stride))


def draw_memory(scene: Scene, title: str) -> Figure:
    """Draw the places of a token and the decay of the states that it reads.

    Args:
        scene: The token.
        title: Title of the figure.

    Returns:
        A figure with one column per direction. There is one row per sequence, which
        shows the area around the token with a dot for each place; the area of a dot is
        proportional to its weight. The last row shows the whole image under the
        decay of the plain scan, with a frame around the area of the other rows.
    """
    names = directions(scene.record.mixer)
    sequences = scene.places.shape[1]
    figure = Figure(
        figsize=(INCHES * len(names), INCHES * (sequences + 1) + 0.5),
        layout='constrained',
    )
    grid = figure.subplots(sequences + 1, len(names), squeeze=False)
    for k, name in enumerate(names):
        grid[0, k].set_title(name)
        for s in range(sequences):
            _draw_places(grid[s, k], scene, k, s)
    for s in range(sequences):
        grid[s, 0].set_ylabel(f'sequence {s}')
    _draw_decay(grid[-1], scene)
    grid[-1, 0].set_ylabel('kept by the plain scan')
    figure.suptitle(title)
    return figure


def _bare(axes: Axes, image: np.ndarray, **how: float) -> None:
    """Draw an image without ticks."""
    axes.imshow(image, **how)
    axes.set_xticks([])
    axes.set_yticks([])


def _mark(axes: Axes, place: np.ndarray) -> None:
    """Draw a cross at a position."""
    for color, width in (('white', 4), ('black', 2)):
        axes.plot(
            place[1],
            place[0],
            '+',
            color=color,
            markersize=13,
            markeredgewidth=width,
            zorder=4,
        )


def _draw_places(axes: Axes, scene: Scene, k: int, s: int) -> None:
    """Draw the places of direction `k` and sequence `s`."""
    places, here, reach = scene.places[k, s], scene.here, scene.reach
    weights = scene.record.weights[(0, *scene.token, k, s)].cpu().numpy()
    _bare(axes, scene.image, alpha=0.6)
    for place, weight in zip(places, weights, strict=True):
        axes.plot([here[1], place[1]], [here[0], place[0]], color=COLOR)
        axes.annotate(
            f'{weight:.2f}',
            place[::-1],
            xytext=(8, 6),
            fontsize=8,
            textcoords='offset points',
            annotation_clip=True,
        )
    axes.scatter(
        places[:, 1],
        places[:, 0],
        s=DOT * weights,
        color=COLOR,
        edgecolor='white',
        zorder=3,
    )
    _mark(axes, here)
    axes.set_xlim(here[1] - reach, here[1] + reach)
    axes.set_ylim(here[0] + reach, here[0] - reach)
    edge = np.array(scene.image.shape[:2]) - 0.5
    outside = ((places < -0.5) | (places > edge)).any(axis=1).sum()
    if outside:
        axes.set_xlabel(f'{outside} of {len(places)} places outside')


def _draw_decay(row: np.ndarray, scene: Scene) -> None:
    """Draw the decay of each direction over the image."""
    here, reach = scene.here, scene.reach
    maps = decay_maps(scene.record, scene.token).numpy()
    size = np.array(maps.shape[1:])
    top_left = scene.on_image(np.full(2, -0.5))
    bottom_right = scene.on_image(size - 0.5)
    extent = (top_left[1], bottom_right[1], bottom_right[0], top_left[0])
    for axes, left in zip(row, maps, strict=True):
        _bare(axes, scene.image.mean(axis=2), cmap='gray')
        shown = axes.imshow(
            left, extent=extent, cmap='magma', vmin=0, vmax=1, alpha=0.75
        )
        axes.add_patch(
            Rectangle(
                here[::-1] - reach, 2 * reach, 2 * reach, fill=False, color='white'
            )
        )
        axes.set_xlim(-0.5, scene.image.shape[1] - 0.5)
        axes.set_ylim(scene.image.shape[0] - 0.5, -0.5)
        _mark(axes, here)
    row[-1].figure.colorbar(shown, ax=row[-1], shrink=0.8)


def draw_fields(fields: Mapping[str, Tensor], image: np.ndarray, title: str) -> Figure:
    """Draw effective receptive fields side by side, on one logarithmic scale.

    Args:
        fields: Fields `(H, W)` by title. Each sums to 1.
        image: As in :class:`Scene`.
        title: Title of the figure.

    Returns:
        The image and the fields. The title of each field has its radius, see
        :func:`~mmadaptor.visualization.receptive_field.radius_of`.
    """
    figure = Figure(
        figsize=(INCHES * (len(fields) + 1) + 0.8, INCHES + 0.9), layout='constrained'
    )
    grid = figure.subplots(1, len(fields) + 1)
    _bare(grid[0], image)
    grid[0].set_title('image', fontsize=9)
    top = max(float(field.max()) for field in fields.values())
    norm = LogNorm(top * FLOOR, top)
    height, width = image.shape[:2]
    for axes, (name, field) in zip(grid[1:], fields.items(), strict=True):
        shown = field[:height, :width].clamp(min=top * FLOOR).numpy()
        _bare(axes, shown, norm=norm, cmap='magma')
        axes.set_title(f'{name}: half within {radius_of(field):.1f} px', fontsize=9)
    figure.colorbar(grid[-1].images[0], ax=grid[-1], shrink=0.8)
    figure.suptitle(title)
    return figure
