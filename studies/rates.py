# SPDX-License-Identifier: Apache-2.0
"""Print the best learning rates of a study: `python -m studies.rates NAME`.

NAME is a study of learning rates, such as `tuning_fashion_200_rates`. Nothing is
trained: methods that lack runs are named, and `python -m studies NAME` trains them.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from benchmarks.measuring import markdown
from mmadaptor.arguments import filled
from mmadaptor.engine.command_line import run

from .report import Results, collect
from .run import RECORD, Run
from .studies import STUDIES

Rates = dict[float, float]


def by_method(names: Iterable[str]) -> dict[str, dict[float, str]]:
    """Return the names of runs, `METHOD, RATE`, by method and rate."""
    found: dict[str, dict[float, str]] = {}
    for name in names:
        method, _, rate = name.rpartition(', ')
        found.setdefault(method, {})[float(rate)] = name
    return found


def scores(results: Results) -> dict[str, Rates]:
    """Return the mean of the first column over seeds, by method and rate."""
    first = next(iter(next(iter(results.values()))))
    return {
        method: {rate: mean(results[name][first]) for rate, name in runs.items()}
        for method, runs in by_method(results).items()
    }


def finished(runs: tuple[Run, ...], folder: Path) -> dict[Run, list[dict]]:
    """Return the records of the seeds that all rates of a method have.

    Args:
        runs: Runs of a study of rates.
        folder: Folder of all runs.
    """
    named = {one.name: one for one in runs}
    records = {}
    for rates in by_method(named).values():
        of_method = [named[name] for name in rates.values()]
        seeds = set.intersection(
            *(
                {path.parent.name for path in (folder / one.key).glob(f'*/{RECORD}')}
                for one in of_method
            )
        )
        for one in of_method if seeds else ():
            records[one] = [
                json.loads((folder / one.key / seed / RECORD).read_text())
                for seed in sorted(seeds, key=int)
            ]
    return records


def table(results: Results) -> str:
    """Format the best rate of each method, and the next, as a Markdown table."""
    rows = []
    for method, rates in scores(results).items():
        chosen, *others = sorted(rates, key=rates.get, reverse=True)
        edge = {max(rates): 'the highest', min(rates): 'the lowest'}.get(chosen, '')
        second = f'{others[0]:g}: {rates[others[0]]:.1f}' if others else ''
        rows.append([method, f'{chosen:g}', f'{rates[chosen]:.1f}', second, edge])
    column = next(iter(next(iter(results.values()))))
    return markdown(['method', 'best rate', column, 'next', 'of those tried'], rows)


def main() -> None:
    """Print the table of the runs that have records."""
    parser = argparse.ArgumentParser(
        prog='python -m studies.rates', description=__doc__.splitlines()[0]
    )
    names = [name for name in STUDIES if name.endswith('_rates')]
    parser.add_argument('name', choices=names)
    parser.add_argument('--out', type=filled, default='work_dirs/study')
    args = parser.parse_args()
    study = STUDIES[args.name]
    records = finished(study.runs, Path(args.out, 'runs'))
    if records:
        results = collect(study, records)
        seeds = min(len(of_run) for of_run in records.values())
        print(f'{study.title}, seeds: {seeds} or more\n\n{table(results)}\n')
    lacking = by_method(one.name for one in study.runs if one not in records)
    if lacking:
        print(f'Some rates have not been run: {"; ".join(lacking)}')


if __name__ == '__main__':
    run(main)
