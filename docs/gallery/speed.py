# SPDX-License-Identifier: Apache-2.0
"""Draw the speed of scans and models: `python docs/gallery/speed.py`.

The data is that of `benchmarks/results`; docs/speed.md has the commands that make it.
"""

import json

import matplotlib.pyplot as plt
from style import BLUE, GRAY, ORANGE, ROOT, save

RESULTS = ROOT / 'benchmarks' / 'results'


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
    figure, panels = plt.subplots(1, len(cases), figsize=(12, 4.2), sharey=True)
    for case, axes in zip(cases, panels, strict=True):
        for i, name in enumerate(names):
            forward, step = peers[name].get(case, (None, None))
            if forward:
                axes.plot(forward, i, 'o', color=BLUE, ms=7)
            if step:
                axes.plot(step, i, 's', color=ORANGE, ms=7)
        axes.axvline(1, color=GRAY, ls='--', lw=1)
        title, _, shape = case.partition(': ')
        axes.set_title(f'{title}\n{shape}', fontsize=9)
        axes.set(xscale='log', xlim=(0.8, 600))
        axes.set_xticks([1, 10, 100], ['1x', '10x', '100x'])
        axes.grid(axis='x', color='#eee')
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].plot([], [], 'o', color=BLUE, label='forward')
    panels[0].plot([], [], 's', color=ORANGE, label='forward and backward')
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    threads = read('peers_scans_cpu')['threads']
    figure.suptitle(
        f"time over that of mmadaptor's scan, threads of the CPU: {threads}"
    )
    save(figure, 'speed_scans', data)


FIGURES = dict(speed_models=speed_models, speed_scans=speed_scans)

if __name__ == '__main__':
    draw_models()
    draw_scans()
