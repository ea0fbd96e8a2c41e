# SPDX-License-Identifier: Apache-2.0
"""Results of a study as a Markdown table, a plot and a JSON file."""

import json
import math
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import t

from benchmarks.measuring import markdown

from .run import Run
from .study import Column, Study

# Of each run by its name: values of each column, one per seed, and sizes.
Results = dict[str, dict]
SIZES = ('backbone', 'trainable', 'total', 'multiply_adds')
ENOUGH = 5  # seeds for a confidence interval
# The palette of Okabe and Ito, which color-blind readers can tell apart.
COLORS = (
    '#0072b2',
    '#e69f00',
    '#009e73',
    '#d55e00',
    '#56b4e9',
    '#cc79a7',
    '#888888',
    '#000000',
)
MARKERS = 'os^D'


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
    """Plot each column: one dot per seed, a line at the mean.

    If `study.share` is set, plot against the share of trainable parameters instead;
    with a baseline the differences from it, seed by seed.

    Args:
        study: The study.
        results: Its results.
        path: Image file to write.
    """
    if study.share:
        _draw_against_share(study, results, path)
        return
    columns = study.columns
    across = max(3.2 * len(columns) + 1.5, 0.1 * len(study.title))
    size = across, 0.34 * len(results) + 1.6
    figure = Figure(figsize=size, layout='constrained')
    plots = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    figure.suptitle(study.title)
    for plot, column in zip(plots, columns, strict=True):
        for place, row in enumerate(results.values()):
            points = row[column]
            plot.plot(points, np.full(len(points), place), 'o', color='C0', alpha=0.6)
            if points:
                plot.plot([mean(points)] * 2, [place - 0.3, place + 0.3], color='C1')
        plot.set_xlabel(column)
        plot.locator_params(axis='x', nbins=5)
        plot.grid(axis='x', alpha=0.3)
    plots[0].set_yticks(range(len(results)), list(results))
    plots[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def _draw_against_share(study: Study, results: Results, path: Path) -> None:
    """Plot seeds, mean and spread against the share of trainable parameters."""
    columns = study.columns
    height = max(4.5, 0.25 * len(results))  # inches: room for the legend
    figure = Figure(figsize=(7 * len(columns), height), layout='constrained')
    plots = figure.subplots(1, len(columns), squeeze=False)[0]
    figure.suptitle(study.title)
    baseline = study.baseline and results.get(study.baseline.name)
    for plot, column in zip(plots, columns, strict=True):
        title, base = column, baseline and baseline[column]
        if base:
            title = f'{title}, against {study.baseline.name}'
            plot.axhline(0, color='black', lw=1, label=study.baseline.name)
        for order, (run, row) in enumerate(results.items()):
            color = COLORS[order % len(COLORS)]
            marker = MARKERS[order // len(COLORS) % len(MARKERS)]
            points, place = row[column], share(row)
            if not points or (base and row is baseline):
                continue
            if base:
                points = [a - b for a, b in zip(points, base, strict=True)]
            plot.plot(
                np.full(len(points), place),
                points,
                marker,
                ms=3,
                color=color,
                alpha=0.4,
            )
            plot.errorbar(
                place,
                mean(points),
                fmt=marker,
                ms=7,
                capsize=4,
                yerr=width(points) if len(points) > 1 else None,
                color=color,
                label=run,
            )
        plot.set_xscale('log')
        plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plot.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:g}'))
        plot.xaxis.set_minor_formatter(NullFormatter())
        plot.set_xlabel('trainable, % of the model')
        plot.set_ylabel(title)
        plot.grid(alpha=0.3)
    figure.legend(*plots[0].get_legend_handles_labels(), loc='outside right center')
    figure.savefig(path, dpi=120)
