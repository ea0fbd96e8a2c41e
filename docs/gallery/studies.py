# SPDX-License-Identifier: Apache-2.0
"""Draw results of the studies: `python docs/gallery/studies.py`.

The data is that of the tables in docs/studies, which `python -m studies` prints.
"""

import re

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from style import BLUE, GRAY, GREEN, ORANGE, ROOT, save

TASKS = dict(
    tuning_discs='new class needs\nthe scan',
    tuning_stripes='new class needs\nconvolutions',
    tuning_corners='new class needs\na memory',
)
TUNED = {BLUE: 'existing weights', GREEN: 'LoRA', ORANGE: 'adaptors'}


def table(study: str) -> list[list]:
    """Return the runs of a study: name, mean and deviation of the last column."""
    pages = (ROOT / 'docs' / 'studies').glob('*.md')
    (section,) = (
        part
        for page in pages
        for part in re.split('^#+ ', page.read_text(), flags=re.M)
        if part.startswith(f'`{study}`')
    )
    rows = re.findall(r'^\| ([^|]+) \|.*\| ([\d.]+) ± ([\d.]+) \|$', section, re.M)
    return [[name, float(mean), float(deviation)] for name, mean, deviation in rows]


def draw_runs(axes: Axes, rows: list[list], colors: list[str]) -> None:
    """Draw runs as points with their deviation, and the means at the right."""
    for i, ((_, mean, deviation), color) in enumerate(zip(rows, colors, strict=True)):
        axes.errorbar(
            mean, i, xerr=deviation, fmt='o', color=color, ms=9, lw=2, capsize=4
        )
        axes.text(
            1.02, i, f'{mean:.1f}', transform=axes.get_yaxis_transform(), va='center'
        )
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis='x', color='#eee')
    axes.set_axisbelow(True)


def color_of(name: str) -> str:
    """Return the color of a run: with adaptors or without."""
    if re.search(r'adaptor|\bT\b|\bS\b', name):
        return ORANGE
    return GREEN if 'LoRA' in name else BLUE


def corners() -> list:
    """Return the runs of the study `corners`, without the one of two blocks."""
    return [row for row in table('corners') if 'two blocks' not in row[0]]


def boosting() -> list:
    """Return the runs of the study `booster_corners`."""
    return table('booster_corners')


def draw_one(name: str, rows: list[list]) -> None:
    """Draw a study in a figure of its own."""
    figure, axes = plt.subplots(figsize=(7.5, 0.55 * len(rows) + 1))
    draw_runs(axes, rows, [color_of(run) for run, *_ in rows])
    axes.set_xlabel('IoU of discs; mean and deviation of three seeds')
    save(figure, name, rows)


def tuning() -> dict:
    """Return the runs of the three studies of tuning."""
    return {study: table(study) for study in TASKS}


def draw_tuning() -> None:
    """Draw the ways to tune, a panel a task."""
    data = tuning()
    # The first two studies, in one row, have the same runs.
    figure, panels = plt.subplots(2, 2, figsize=(7.5, 6.4), sharey='row')
    *panels, corner = panels.flat
    for (study, title), axes in zip(TASKS.items(), panels, strict=True):
        rows = data[study]
        draw_runs(axes, rows, [color_of(run) for run, *_ in rows])
        axes.axvline(rows[0][1], color=GRAY, ls='--', lw=1)
        axes.set(xlabel='IoU of the new class', xlim=(15, 100))
        axes.set_xticks([25, 50, 75, 100])
        axes.set_title(title, fontsize=11, weight='bold')
    corner.axis('off')
    style = dict(fmt='o', ms=9, lw=2, capsize=4)
    for color, label in TUNED.items():
        corner.errorbar([], [], xerr=[], color=color, label=label, **style)
    corner.plot([], [], '--', color=GRAY, lw=1, label='full fine-tuning')
    title = 'mean and deviation of three seeds'
    corner.legend(loc='center', frameon=False, title=title, labelspacing=0.8)
    save(figure, 'tuning', data)


FIGURES = dict(corners=corners, boosting=boosting, tuning=tuning)

if __name__ == '__main__':
    draw_one('corners', corners())
    draw_one('boosting', boosting())
    draw_tuning()
