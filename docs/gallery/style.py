# SPDX-License-Identifier: Apache-2.0
"""Style of the figures: colors that color-blind readers can tell apart, SVG files."""

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('agg')

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # for benchmarks

from benchmarks.measuring import digest  # noqa: E402

IMAGES = ROOT / 'docs' / 'images'
# The palette of Okabe and Ito.
BLUE, ORANGE, GREEN, RED = '#0072b2', '#e69f00', '#009e73', '#d55e00'
SKY, PURPLE, GRAY = '#56b4e9', '#cc79a7', '#888888'

plt.rcParams.update(
    {
        'font.size': 11,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'figure.constrained_layout.use': True,
        'svg.fonttype': 'path',  # the same in every browser
        'svg.hashsalt': 'mmadaptor',
    }
)


def save(figure: Figure, name: str, data: Any) -> None:
    """Write a figure to `docs/images`.

    Args:
        figure: The figure, which is closed.
        name: Name of the file, without suffix.
        data: What the figure shows, as plain values. Its hash is written to the file:
            `tests/docs/test_gallery.py` fails if the data has changed since.
    """
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f'{name}.svg'
    metadata = {'Date': None, 'Description': digest(data)}
    figure.savefig(path, metadata=metadata, facecolor='white')
    plt.close(figure)
    sys.stdout.write(f'{path.relative_to(ROOT)}\n')
