# SPDX-License-Identifier: Apache-2.0
"""Draw what a scan and both adaptors do: `python docs/gallery/adaptors.py`.

Nothing is trained: places and kernels are those at the start of a training.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from style import BLUE, GRAY, GREEN, ORANGE, RED, save

SIDE = 7  # pixels of the drawn map
STEPS = (0.001, 0.01, 0.1)  # from the smallest to the largest initial step size
COLORS = (BLUE, ORANGE, GREEN)
DIRECTIONS = ('rows', 'columns', 'rows reversed', 'columns reversed')


def draw_map(axes: Axes, side: int = SIDE) -> None:
    """Draw the pixels of a map, without axes."""
    for r in range(side):
        for c in range(side):
            axes.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fc='#f4f4f4', ec='#bbb'))
    axes.set(xlim=(-0.7, side - 0.3), ylim=(side - 0.3, -0.7), aspect='equal')
    axes.axis('off')


def path_of(direction: str, side: int) -> np.ndarray:
    """Return the (column, row) of each step of a scan."""
    row, column = np.divmod(np.arange(side * side), side)
    path = np.stack([column, row] if 'rows' in direction else [row, column], 1)
    return path[::-1] if 'reversed' in direction else path


def kept(step: float, distance: np.ndarray) -> np.ndarray:
    """Return what a state with a decay rate of -1 keeps after a number of steps."""
    return np.exp(-step * distance)


def scan() -> dict:
    """Return what the figure of the scan shows."""
    return dict(steps=STEPS, directions=DIRECTIONS, side=5)


def draw_scan() -> None:
    """Draw the four directions, and the decay with distance."""
    figure = plt.figure(figsize=(10, 3.6))
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 3))
    for i, direction in enumerate(DIRECTIONS):
        axes = figure.add_subplot(grid[i // 2, i % 2])
        draw_map(axes, 5)
        path = path_of(direction, 5)
        axes.plot(*path.T, color=BLUE, lw=1.2)
        axes.annotate(
            '', path[-1], path[-2], arrowprops=dict(arrowstyle='-|>', color=BLUE)
        )
        axes.plot(*path[0], 'o', color=BLUE, ms=5)
        axes.set_title(direction, fontsize=10)
    axes = figure.add_subplot(grid[:, 2])
    distance = np.geomspace(1, 3136, 200)
    for step, color, dash in zip(STEPS, COLORS, ('-', '--', '-.'), strict=True):
        label = f'step size {step:g}'
        axes.plot(distance, kept(step, distance), dash, color=color, lw=2, label=label)
    for steps, label in ((1, 'next pixel\nof a row'), (56, 'pixel below')):
        axes.axvline(steps, color=GRAY, lw=1, ls=':')
        axes.text(steps * 1.1, 0.04, label, color='#444', fontsize=9)
    axes.set(xscale='log', ylim=(0, 1.02), xlabel='steps along the rows of 56 pixels')
    axes.set_ylabel('share of the state that is kept')
    axes.legend(frameon=False, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=3)
    save(figure, 'scan', scan())


def adaptor_t() -> dict:
    """Return what the figure of Adaptor-T shows."""
    angles = [2 * math.pi * p / 4 for p in range(4)]
    ring = [[math.sin(a), math.cos(a)] for a in angles]  # row, column
    return dict(
        token=[3, 3],
        rings=[[[r * y, r * x] for y, x in ring] for r in (1, 2)],
        learned=[[0.6, 5.2], [1.4, 1.3], [5.3, 4.6], [4.2, 0.5]],
        weights=[0.55, 0.2, 0.15, 0.1],
    )


def draw_adaptor_t() -> None:
    """Draw the places of a token at the start, and an example of learned ones."""
    data = adaptor_t()
    row, column = data['token']
    figure, (start, end) = plt.subplots(1, 2, figsize=(9, 4.4))
    for axes in (start, end):
        draw_map(axes)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=RED, ec='none'))
    names = ('sequence 1, granularity 1', 'sequence 2, granularity 2')
    for ring, color, marker, name in zip(
        data['rings'], (BLUE, ORANGE), 'os', names, strict=True
    ):
        places = np.array(ring) + data['token']
        start.plot(*places.T[::-1], marker, color=color, ms=11, label=name)
    start.set_title('at the start: a ring per sequence, equal weights')
    for place, weight in zip(data['learned'], data['weights'], strict=True):
        y, x = place
        end.annotate(
            '',
            (column, row),
            (x, y),
            arrowprops=dict(arrowstyle='-|>', color=GREEN, lw=1 + 5 * weight),
        )
        end.add_patch(Circle((x, y), 0.15 + 0.5 * weight, fc=GREEN, ec='white'))
        end.text(x, y + 0.35 + 0.5 * weight, f'{weight:.2f}', ha='center', va='top')
    end.set_title('learned: any place of the map (schematic)')
    start.plot([], [], 's', color=RED, ms=11, label='token')
    end.plot([], [], 'o', color=GREEN, ms=11, label='place; the area is its weight')
    for axes in (start, end):
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, 0), frameon=False, ncols=1)
    save(figure, 'adaptor_t', data)


def adaptor_s() -> dict:
    """Return what the figure of Adaptor-S shows."""
    return dict(dilations=[1, 2, 3])


def draw_adaptor_s() -> None:
    """Draw the taps of the dilated kernels."""
    data = adaptor_s()
    figure, panels = plt.subplots(1, 4, figsize=(11, 3))
    center = SIDE // 2
    for axes in panels:
        draw_map(axes)
    for r, color, axes in zip(data['dilations'], COLORS, panels[:3], strict=True):
        for target in (axes, panels[3]):
            for y in (-r, 0, r):
                for x in (-r, 0, r):
                    if x or y:
                        target.add_patch(
                            Rectangle(
                                (center + x - 0.4, center + y - 0.4), 0.8, 0.8, fc=color
                            )
                        )
        axes.set_title(f'dilation {r}')
    panels[3].set_title('all, in one pass')
    for axes in panels:
        axes.add_patch(Rectangle((center - 0.4, center - 0.4), 0.8, 0.8, fc=RED))
    save(figure, 'adaptor_s', data)


FIGURES = dict(scan=scan, adaptor_t=adaptor_t, adaptor_s=adaptor_s)

if __name__ == '__main__':
    draw_scan()
    draw_adaptor_t()
    draw_adaptor_s()
