# SPDX-License-Identifier: Apache-2.0
"""Draw the speed of scans and models: `python docs/gallery/speed.py`.

The data is that of `benchmarks/results`; docs/speed.md has the commands that make it.
"""

import json

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from style import BLUE, GRAY, ORANGE, ROOT, save

from benchmarks.scaling import NAMES, measured_bytes

RESULTS = ROOT / 'benchmarks' / 'results'
FACTORS = dict(
    L='length L of the scan',
    N='states N of the scan',
    D='channels D of the scan',
    batch='batch of the scan',
    pixels='pixels of an image, b0 and b2',
)
COLORS = dict(forward=BLUE, step=ORANGE)
DASHES = {1: '--', 2: '-'}  # by threads
MARKERS = dict(scan='o', b0='s', b2='^')


def read(name: str) -> dict:
    """Read the results of a benchmark."""
    return json.loads((RESULTS / f'{name}.json').read_text())


def speed_models() -> list:
    """Return models with their times over Swin-T's: inference, training step."""
    return [
        [row['model'], row['inference_to_Swin-T'], row['step_to_Swin-T']]
        for row in read('models_cpu')['rows']
        if row['dtype'] == 'float32'
    ]


def draw_models() -> None:
    """Draw the times of models over that of Swin-T."""
    data = speed_models()
    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    for i, (_, *times) in enumerate(data):
        axes.plot(times, [i, i], color='#ccc', zorder=1)
    names, inference, step = zip(*data, strict=True)
    rows, size = range(len(data)), 70
    axes.scatter(inference, rows, size, BLUE, label='inference')
    axes.scatter(step, rows, size, ORANGE, marker='s', label='training step')
    axes.axvline(1, color=GRAY, ls='--', lw=1)
    axes.set_yticks(rows, names)
    axes.set(xlim=(0, None), xlabel="time over that of mmpretrain's Swin-T, on a CPU")
    axes.invert_yaxis()
    axes.legend(frameon=False, loc='center left', bbox_to_anchor=(1, 0.5))
    save(figure, 'speed_models', data)


def speed_scans() -> list:
    """Return peers with their times over ours, by case; None where not run."""
    rows = read('peers_scans_cpu')['scans']
    ours = {r['case']: r['seconds'] for r in rows if r['peer'] == 'mmadaptor'}
    found: dict = {}
    for row in rows:
        times = row.get('seconds', {})
        if times and not row['peer'].startswith('mmadaptor'):
            own = ours[row['case']]
            ratios = [times[k] / own[k] if k in times else None for k in own]
            found.setdefault(row['peer'], {})[row['case']] = ratios
    return [list(ours), found]


def draw_scans() -> None:
    """Draw the times of other packages' scans over ours."""
    cases, peers = data = speed_scans()
    names = sorted(
        peers, key=lambda p: min(v[0] for v in peers[p].values()), reverse=True
    )
    figure, panels = plt.subplots(2, 2, figsize=(7.5, 7), sharex=True, sharey=True)
    for case, axes in zip(cases, panels.flat, strict=True):
        for i, name in enumerate(names):
            forward, step = peers[name].get(case, (None, None))
            if forward:
                axes.plot(forward, i, 'o', color=BLUE, ms=7)
            if step:
                axes.plot(step, i, 's', color=ORANGE, ms=7)
        axes.axvline(1, color=GRAY, ls='--', lw=1)
        title, _, shape = case.partition(': ')
        axes.set_title(f'{title}\n{shape}', fontsize=11)
        axes.set(xscale='log', xlim=(0.8, 600))
        axes.set_xticks([1, 10, 100], ['1x', '10x', '100x'])
        axes.grid(axis='x', color='#eee')
        axes.set_axisbelow(True)
    first = panels[0, 0]
    first.set_yticks(range(len(names)), names)
    first.plot([], [], 'o', color=BLUE, label='forward')
    first.plot([], [], 's', color=ORANGE, label='forward and backward')
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    threads = read('peers_scans_cpu')['threads']
    title = f"time over that of mmadaptor's scan, {threads} CPU threads"
    figure.suptitle(title, fontsize=12)
    save(figure, 'speed_scans', data)


def over_linear(sizes: list, values: list) -> list:
    """Return sizes, and values over the line through zero and the last point.

    Args:
        sizes: Sizes of the inputs.
        values: Seconds or bytes.
    """
    last = values[-1] / sizes[-1]
    return [sizes, [v / s / last for s, v in zip(sizes, values, strict=True)]]


def scaling() -> list:
    """Return the curves of time and of memory, with what they belong to."""
    return [
        dict(
            {key: row[key] for key in ('factor', 'subject', 'kind', 'threads')},
            time=over_linear(row['sizes'], row['seconds']),
            memory=over_linear(*measured_bytes(row)),
        )
        for row in read('scaling_cpu')['rows']
    ]


def legend_of_scaling() -> list[Line2D]:
    """Return entries for the colors, lines and markers of the curves."""
    kinds = [Line2D([], [], color=c, lw=4, label=NAMES[k]) for k, c in COLORS.items()]
    dark = dict(color='#444')
    threads = [
        Line2D([], [], ls=dash, label=f'{n} thread{"s" * (n > 1)}', **dark)
        for n, dash in DASHES.items()
    ]
    subjects = [
        Line2D([], [], ls='', marker=marker, label=name, **dark)
        for name, marker in MARKERS.items()
    ]
    return kinds + threads + subjects


def draw_scaling() -> None:
    """Draw time and memory over linear growth, a row a factor."""
    data = scaling()
    figure, panels = plt.subplots(
        len(FACTORS), 2, figsize=(7.5, 8.5), sharex='row', sharey=True
    )
    for axes, quantity in zip(panels[0], ('time', 'memory'), strict=True):
        axes.set_title(f'{quantity} over linear growth')
    for (factor, label), row in zip(FACTORS.items(), panels, strict=True):
        for axes, quantity in zip(row, ('time', 'memory'), strict=True):
            for curve in (curve for curve in data if curve['factor'] == factor):
                axes.plot(
                    *curve[quantity],
                    color=COLORS[curve['kind']],
                    ls=DASHES[curve['threads']],
                    marker=MARKERS[curve['subject']],
                    ms=4,
                )
            axes.axhline(1, color=GRAY, lw=1, zorder=0)
            axes.set(xscale='log', yscale='log', xlabel=label, ylim=(0.7, 40))
            axes.set_yticks([1, 3, 10, 30], ['1', '3', '10', '30'])
            axes.yaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter('{x:,.0f}')
    figure.legend(
        handles=legend_of_scaling(), loc='outside lower center', ncols=4, frameon=False
    )
    save(figure, 'scaling', data)


FIGURES = dict(speed_models=speed_models, speed_scans=speed_scans, scaling=scaling)

if __name__ == '__main__':
    draw_models()
    draw_scans()
    draw_scaling()
