# SPDX-License-Identifier: Apache-2.0
"""Command line of the studies: `python -m studies NAME ...`."""

import argparse
from pathlib import Path

from mmadaptor.arguments import filled, positive
from mmadaptor.engine.command_line import run

from . import __doc__ as purpose
from .report import collect, draw, save, table
from .run import run_all
from .studies import STUDIES


def main() -> None:
    """Train missing runs, then print and save tables and plots."""
    parser = argparse.ArgumentParser(prog='python -m studies', description=purpose)
    parser.add_argument('names', nargs='+', choices=list(STUDIES))
    parser.add_argument('--seeds', type=positive, default=3)
    parser.add_argument(
        '--jobs',
        type=positive,
        default=2,
        help='parallel runs; if more than 1, each uses one thread',
    )
    parser.add_argument(
        '--against',
        type=filled,
        metavar='ROW',
        help='row that the others are compared with; default: that of the study',
    )
    parser.add_argument('--out', type=filled, default='work_dirs/study')
    args = parser.parse_args()
    studies = {name: STUDIES[name] for name in args.names}
    if args.against is not None:
        studies = {name: one.against(args.against) for name, one in studies.items()}
    for name, study in studies.items():
        out = Path(args.out, name)
        records = run_all(study.runs, out, args.seeds, args.jobs)
        results = collect(study, records)
        text = table(study, results)
        (out / 'table.md').write_text(text + '\n')
        draw(study, results, out / 'plot.svg')
        save(study, results, out / 'results.json')
        print(
            f'{study.title}, {args.seeds} seeds:\n\n{text}\n\n'
            f'Plot and values of each seed: {out / "plot.svg"}, {out / "results.json"}'
        )


if __name__ == '__main__':
    run(main)
