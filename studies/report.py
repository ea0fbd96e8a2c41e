# SPDX-License-Identifier: Apache-2.0
"""Results of a study as a Markdown table, a plot and a JSON file."""

import json
import math
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t

from benchmarks.measuring import digest, markdown

from .run import Run
from .study import Column, Study

# Of each run by its name: values of each column, one per seed, and sizes.
Results = dict[str, dict]
SIZES = ('backbone', 'trainable', 'total', 'multiply_adds')
ENOUGH = 5  # seeds for a confidence interval
SEED, MEAN = '#e69f00', '#0072b2'  # which color-blind readers can tell apart
STYLE = {'svg.fonttype': 'path', 'svg.hashsalt': 'mmadaptor'}  # the same everywhere


def values(records: list[dict], column: Column) -> list[float]:
    """Return the values of a column, one per seed; empty if a metric is missing."""
    try:
        return [column(record['metrics']) for record in records]
    except KeyError:
        return []


def width(points: list[float]) -> float:
    """Return the spread over seeds.

    Args:
        points: One value per seed, two or more.

    Returns:
        Half the 95 % confidence interval of the mean; below `ENOUGH` values the
        standard deviation.
    """
    if len(points) < ENOUGH:
        return stdev(points)
    return stdev(points) * t.ppf(0.975, len(points) - 1) / math.sqrt(len(points))


def spread(points: list[float]) -> str:
    """Format mean and `width` of values, one per seed, e.g. `51.3 ± 0.4`."""
    if len(points) < 2:
        return ''.join(f'{point:.1f}' for point in points)
    return f'{mean(points):.1f} ± {width(points):.1f}'


def difference(points: list[float], others: list[float]) -> str:
    """Format the mean difference with its 95 % confidence interval.

    Args:
        points: One value per seed.
        others: The same of the baseline. A seed gives both the same order of images,
            and in tuning the same base, so the interval is that of the differences.

    Returns:
        E.g. `+1.2 ± 0.4`; empty if there are fewer than `ENOUGH` values.
    """
    if min(len(points), len(others)) < ENOUGH:
        return ''
    pairs = [a - b for a, b in zip(points, others, strict=True)]
    return f'{mean(pairs):+.1f} ± {width(pairs):.1f}'


def share(row: dict) -> float:
    """Return the share of trainable parameters, in percent."""
    return 100 * row['trainable'] / row['total']


def collect(study: Study, records: dict[Run, list[dict]]) -> Results:
    """Return the results of a study.

    Args:
        study: The study.
        records: Records of each run, one per seed.
    """
    return {
        run.name: dict(
            {name: values(of_run, column) for name, column in study.columns.items()},
            **{key: of_run[0][key] for key in SIZES},
            commits=sorted({record['commit'] for record in of_run}),
        )
        for run, of_run in records.items()
    }


def seeds_of(study: Study, results: Results) -> int:
    """Return the number of seeds that every run has."""
    return min(
        max(len(row[name]) for name in study.columns) for row in results.values()
    )


def table(study: Study, results: Results) -> str:
    """Format the results as a Markdown table."""
    heads = ['run', 'backbone', *study.columns]
    if study.share:
        heads.insert(2, 'trains')
    if study.cost:
        heads.insert(2, 'multiply-adds')
    base = study.baseline and results.get(study.baseline.name)
    if base:
        heads += [f'{name}, against {study.baseline.name}' for name in study.columns]
    rows = []
    for run, row in results.items():
        cells = [run, f'{row["backbone"] / 1e6:.3f} M']
        if study.cost:
            cells.append(f'{row["multiply_adds"] / 1e6:.1f} M')
        if study.share:
            cells.append(f'{share(row):.1f} %')
        cells += [spread(row[name]) for name in study.columns]
        if base:
            cells += [
                difference(row[name], base[name]) if row is not base else ''
                for name in study.columns
            ]
        rows.append(cells)
    return f'{markdown(heads, rows)}\n\n{meaning(seeds_of(study, results))}'


def meaning(seeds: int) -> str:
    """Return what the spreads of a table are.

    Args:
        seeds: Number of seeds.
    """
    if seeds < ENOUGH:
        return (
            f'Mean ± standard deviation, seeds: {seeds}. Too few for a claim: '
            f'{ENOUGH} or more are needed.'
        )
    return (
        'Mean ± half of the 95 % confidence interval (Student t), seeds: '
        f'{seeds}. Differences are taken seed by seed.'
    )


def save(study: Study, results: Results, path: Path) -> None:
    """Save the results as JSON."""
    content = json.dumps(dict(title=study.title, runs=results), indent=1)
    path.write_text(content + '\n')


def draw(study: Study, results: Results, path: Path) -> None:
    """Plot each column: a row a run, with its seeds, mean and spread.

    With a baseline, differences from it are plotted, seed by seed. If `study.share` is
    set, the rows are sorted by the share of trainable parameters.

    Args:
        study: The study.
        results: Its results.
        path: SVG file to write, with the hash of the results as description.
    """
    base = study.baseline and results.get(study.baseline.name)
    rows = {run: row for run, row in results.items() if row is not base}
    labels = list(rows)
    if study.share:
        rows = dict(sorted(rows.items(), key=lambda item: share(item[1])))
        labels = [f'{run}  ({share(row):.1f} %)' for run, row in rows.items()]
    across = min(len(study.columns), 2)
    down = math.ceil(len(study.columns) / across)
    size = 7.5, down * (0.3 * len(rows) + 0.8) + 0.4  # inches
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flat
    figure.suptitle(study.title)
    for surplus in panels[len(study.columns) :]:
        surplus.remove()
    for panel, column in zip(panels, study.columns, strict=False):
        others = base[column] if base else []
        for place, row in enumerate(rows.values()):
            points = row[column]
            if others and points:
                points = [a - b for a, b in zip(points, others, strict=True)]
            if points:
                _draw_row(panel, place, points)
        if others:
            panel.axvline(0, color='black', lw=1)
        against = f', against {study.baseline.name}' if others else ''
        panel.set_xlabel(column + against)
        panel.locator_params(axis='x', nbins=6)
        panel.grid(axis='x', alpha=0.3)
        panel.spines[['top', 'right']].set_visible(False)
    figure.supxlabel(
        'dots: seeds; diamond and bar: mean and '
        + ('95 % interval' if seeds_of(study, results) >= ENOUGH else 'deviation'),
        size='small',
    )
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    with rc_context(STYLE):
        figure.savefig(path, metadata=dict(Date=None, Description=digest(results)))


def _draw_row(panel: Axes, place: int, points: list[float]) -> None:
    """Draw the values of a run, and their mean and spread."""
    panel.plot(points, np.full(len(points), place), 'o', ms=4, color=SEED, alpha=0.5)
    error = width(points) if len(points) > 1 else None
    panel.errorbar(mean(points), place, xerr=error, fmt='D', capsize=4, color=MEAN)
