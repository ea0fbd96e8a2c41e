# SPDX-License-Identifier: Apache-2.0
"""Figures of the memory and the receptive field of a token, by matplotlib."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from mmadaptor.models.record import Lattice, Record, directions

from .decay import decay_maps
from .receptive_field import radius_of

INCHES, DPI = 2.2, 200
DOT = 160  # area of a circle with a weight of 1, in square points
# Of the palette of Okabe and Ito, which color-blind readers can tell apart.
PLACE, FRAME = '#0072b2', '#56b4e9'
OUTLINE = [Stroke(linewidth=3, foreground='white'), Normal()]
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
        shows the area around the token with a circle for each place; the area of a
        circle is proportional to its weight. The last row shows the whole image under
        the decay of the plain scan, with a frame around the area of the other rows.
    """
    names = directions(scene.record.mixer)
    sequences = scene.places.shape[1]
    figure = Figure(
        figsize=(INCHES * len(names) + 0.8, (INCHES + 0.3) * (sequences + 1) + 0.8),
        layout='constrained',
        dpi=DPI,
    )
    grid = figure.subplots(sequences + 1, len(names), squeeze=False)
    for k, name in enumerate(names):
        grid[0, k].set_title(name)
        for s in range(sequences):
            _draw_places(grid[s, k], scene, k, s)
    for s in range(sequences):
        grid[s, 0].set_ylabel(f'places of sequence {s + 1}')
    _draw_decay(grid[-1], scene)
    grid[-1, 0].set_ylabel('kept by the plain scan')
    figure.legend(handles=_legend(), loc='outside lower center', ncols=3, frameon=False)
    figure.suptitle(title)
    return figure


def _legend() -> list[Line2D | Patch]:
    """Return what the figure of a memory shows, for its legend."""
    circle = dict(marker='o', ls='', color=PLACE, mec='white')
    return [
        _token(),
        Line2D([], [], color=PLACE, label='from the token to a place'),
        *(
            Line2D([], [], ms=(DOT * weight) ** 0.5, label=label, **circle)
            for weight, label in (
                (1, 'place that is read: weight 1'),
                (0.5, 'weight 0.5'),
                (0.1, 'weight 0.1'),
            )
        ),
        Patch(fill=False, ec=FRAME, lw=2, label='area of the rows above'),
    ]


def _token() -> Line2D:
    """Return the cross of a token, for a legend."""
    return Line2D([], [], marker='+', ls='', color='black', ms=11, mew=2, label='token')


def _bare(axes: Axes, image: np.ndarray, **how: float) -> None:
    """Draw an image without ticks."""
    axes.imshow(image, **how)
    axes.set_xticks([])
    axes.set_yticks([])


def _mark(axes: Axes, place: np.ndarray) -> None:
    """Draw a cross at a position."""
    axes.plot(
        *place[::-1],
        '+',
        color='black',
        ms=11,
        mew=2,
        zorder=4,
        path_effects=[Stroke(linewidth=4, foreground='white'), Normal()],
    )


def _draw_places(axes: Axes, scene: Scene, k: int, s: int) -> None:
    """Draw the places of direction `k` and sequence `s`."""
    places, here, reach = scene.places[k, s], scene.here, scene.reach
    weights = scene.record.weights[(0, *scene.token, k, s)].cpu().numpy()
    _bare(axes, scene.image, alpha=0.7)
    for place in places:
        line = [[here[1], place[1]], [here[0], place[0]]]
        axes.plot(*line, color=PLACE, lw=1.2, path_effects=OUTLINE)
    axes.scatter(*places.T[::-1], s=DOT * weights, c=PLACE, ec='white', zorder=3)
    _mark(axes, here)
    axes.set_xlim(here[1] - reach, here[1] + reach)
    axes.set_ylim(here[0] + reach, here[0] - reach)
    edge = np.array(scene.image.shape[:2]) - 0.5
    outside = ((places < -0.5) | (places > edge)).any(axis=1).sum()
    text = f'largest weight {weights.max():.2f}'
    if outside:
        text += f'\n{outside} of {len(places)} places outside'
    axes.set_xlabel(text)


def _draw_decay(row: np.ndarray, scene: Scene) -> None:
    """Draw the decay of each direction over the image."""
    here, reach = scene.here, scene.reach
    maps = decay_maps(scene.record, scene.token).numpy()
    size = np.array(maps.shape[1:])
    top_left = scene.on_image(np.full(2, -0.5))
    bottom_right = scene.on_image(size - 0.5)
    extent = (top_left[1], bottom_right[1], bottom_right[0], top_left[0])
    for axes, kept in zip(row, maps, strict=True):
        _bare(axes, scene.image.mean(axis=2), cmap='gray')
        shown = axes.imshow(
            kept, extent=extent, cmap='magma', vmin=0, vmax=1, alpha=0.75
        )
        corner = here[::-1] - reach
        axes.add_patch(
            Rectangle(corner, 2 * reach, 2 * reach, fill=False, ec=FRAME, lw=1.5)
        )
        axes.set_xlim(-0.5, scene.image.shape[1] - 0.5)
        axes.set_ylim(scene.image.shape[0] - 0.5, -0.5)
        _mark(axes, here)
    row[0].figure.colorbar(shown, ax=row, label='share of the state', pad=0.01)


def draw_fields(fields: Mapping[str, Tensor], scene: Scene, title: str) -> Figure:
    """Draw effective receptive fields side by side, on one logarithmic scale.

    Args:
        fields: Fields `(H, W)` by title. Each sums to 1.
        scene: The token.
        title: Title of the figure.

    Returns:
        The image and the fields. The title of each field has its radius, see
        :func:`~mmadaptor.visualization.receptive_field.radius_of`.
    """
    figure = Figure(
        figsize=(2.8 * (len(fields) + 1) + 0.8, 4), layout='constrained', dpi=DPI
    )
    grid = figure.subplots(1, len(fields) + 1)
    _bare(grid[0], scene.image)
    _mark(grid[0], scene.here)
    grid[0].set_title('image')
    top = max(float(field.max()) for field in fields.values())
    norm = LogNorm(top * FLOOR, top)
    height, width = scene.image.shape[:2]
    for axes, (name, field) in zip(grid[1:], fields.items(), strict=True):
        shown = field[:height, :width].clamp(min=top * FLOOR).numpy()
        _bare(axes, shown, norm=norm, cmap='magma')
        axes.set_title(name)
        axes.set_xlabel(f'half of the gradient: radius {radius_of(field):.1f} px')
    bar = figure.colorbar(grid[-1].images[0], ax=grid, shrink=0.8, pad=0.01)
    bar.set_label('share of the gradient')
    figure.legend(handles=[_token()], loc='outside lower left', frameon=False)
    figure.suptitle(title)
    return figure
