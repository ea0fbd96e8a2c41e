# SPDX-License-Identifier: Apache-2.0
"""Time and memory against sizes: `python -m benchmarks.scaling`.

The scan against L, N, D and the batch, and b0 and b2 against the number of pixels, one
factor at a time, forward and with backward. Prints the exponents p of `size^p` over the
upper half of the sizes, where 1 is linear. docs/gallery/speed.py draws the results.

The sizes of a factor are timed in turn; medians are reported. Memory is the growth of
the resident set, as in benchmarks.peers.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring import (
    commit,
    elapsed,
    exponent,
    in_child,
    in_turn,
    keep_memory,
    markdown,
    processor,
    resident_growth,
)
from benchmarks.peer_scans import Case, ours

KINDS = ('forward', 'step')
NAMES = dict(forward='forward', step='forward and backward')
SECONDS = 10.0
"""After as many seconds a size leaves the rounds."""
LEAST = 5e-3
"""Shorter calls are repeated until they take as many seconds together."""
SMALLEST = 2**20
"""Growths of fewer bytes are left out: pages and small blocks blur them."""

SCANS = dict(
    L=[
        Case('', 1, 128, length, 16)
        for length in (1000, 3162, 10000, 31623, 100000, 316228, 1000000)
    ],
    N=[Case('', 1, 384, 3136, states) for states in (1, 2, 4, 8, 16, 32, 64)],
    D=[Case('', 1, 2**power, 1024, 16) for power in range(4, 13)],
    batch=[Case('', 2**power, 192, 197, 16) for power in range(7)],
)
MODELS = dict(b0='mamba_adaptor_b0', b2='mamba_adaptor_b2')
SIDES = (224, 448, 672, 896, 1120, 1344)


def size_of(factor: str, case: Case | int) -> float:
    """Return the number on the axis of a factor; for a side of an image, pixels."""
    if isinstance(case, int):
        return case * case
    fields = dict(L='length', N='states', D='channels', batch='batch')
    return getattr(case, fields[factor])


def call_of(subject: str, case: Case | int, kind: str) -> Callable[[], object]:
    """Return a function to measure.

    Args:
        subject: `'scan'`, or a key of `MODELS`.
        case: Sizes of the scan, or the side of one image.
        kind: One of `KINDS`.
    """
    if isinstance(case, Case):
        from benchmarks.scan_table import RUNS

        return partial(RUNS[kind], ours, case.inputs())
    from benchmarks.models import inference, training_step
    from mmadaptor.models import create_classifier

    run = dict(forward=inference, step=training_step)[kind]
    torch.manual_seed(0)
    return run(create_classifier(MODELS[subject]), torch.randn(1, 3, case, case))


def growths(subject: str, cases: list, kind: str, threads: int) -> list[int]:
    """Return for each case the peak memory over its inputs or weights, in bytes."""
    torch.set_num_threads(threads)
    return [resident_growth(call_of(subject, case, kind)) for case in cases]


def clock_of(call: Callable[[], object]) -> Callable[[], float]:
    """Return a function that times a call, warmed up; see `LEAST`."""
    call()
    count = max(1, round(LEAST / elapsed(call)))

    def clock() -> float:
        return elapsed(lambda: [call() for _ in range(count)]) / count

    return clock


def series(
    subject: str, factor: str, cases: list, kind: str, threads: int, repeats: int
) -> dict:
    """Measure one curve.

    Args:
        subject: See :func:`call_of`.
        factor: Name of what changes.
        cases: What :func:`call_of` takes, from small to large.
        kind: One of `KINDS`.
        threads: Number of threads.
        repeats: Number of rounds.

    Returns:
        Sizes, seconds and bytes, with what they belong to.
    """
    torch.set_num_threads(threads)
    clocks = {n: clock_of(call_of(subject, c, kind)) for n, c in enumerate(cases)}
    seconds = in_turn(clocks, repeats, SECONDS)
    del clocks
    return dict(
        subject=subject,
        factor=factor,
        kind=kind,
        threads=threads,
        sizes=[size_of(factor, case) for case in cases],
        seconds=list(seconds.values()),
        bytes=in_child(growths, subject, cases, kind, threads),
    )


def upper_half(sizes: list[float], values: list[float]) -> tuple[list, list]:
    """Return the larger half of the sizes, at least three, and their values."""
    count = max(3, (len(sizes) + 1) // 2)
    return sizes[-count:], values[-count:]


def measured_bytes(row: dict) -> tuple[list, list]:
    """Return the sizes and bytes of a series without growths below `SMALLEST`."""
    pairs = zip(row['sizes'], row['bytes'], strict=True)
    kept = [pair for pair in pairs if pair[1] >= SMALLEST]
    return [size for size, _ in kept], [value for _, value in kept]


def table(rows: list[dict]) -> str:
    """Format the exponents of series.

    Args:
        rows: Rows of :func:`series`.
    """
    lines = []
    for row in rows:
        sizes, grown = measured_bytes(row)
        time_exponent = exponent(*upper_half(row['sizes'], row['seconds']))
        memory_exponent = exponent(*upper_half(sizes, grown))
        lines.append(
            [
                f'{row["subject"]}, {row["factor"]}',
                f'{row["sizes"][0]:,} to {row["sizes"][-1]:,}',
                NAMES[row['kind']],
                str(row['threads']),
                f'{row["seconds"][-1] * 1e3:,.1f} ms',
                f'{time_exponent:.2f}',
                f'{grown[-1] / 2**20:,.0f} MiB',
                f'{memory_exponent:.2f}',
            ]
        )
    header = ['', 'sizes', '', 'threads', 'time at the largest', 'exponent']
    return markdown([*header, 'memory at the largest', 'exponent'], lines)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    # Not above: processes that measure memory import this module.
    from mmadaptor.arguments import filled, new_file, positive

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', nargs='+', type=positive, default=[1, 2])
    parser.add_argument('--repeats', type=positive, default=9)
    parser.add_argument(
        '--only', nargs='+', choices=[*SCANS, 'pixels'], default=[*SCANS, 'pixels']
    )
    parser.add_argument('--json', type=new_file, help='save the results to this file')
    parser.add_argument(
        '--read', type=filled, help='results of --json instead of measurements'
    )
    return parser.parse_args()


def measure(args: argparse.Namespace) -> list[dict]:
    """Measure all series; those of the models with the most threads only."""
    rows = []
    for factor in args.only:
        threads, subjects = args.threads, dict(scan=SCANS.get(factor))
        if factor == 'pixels':
            threads, subjects = [max(threads)], dict.fromkeys(MODELS, SIDES)
        for subject, cases in subjects.items():
            for kind in KINDS:
                for count in threads:
                    rows.append(
                        series(subject, factor, cases, kind, count, args.repeats)
                    )
                    print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def main() -> None:
    """Print the table."""
    args = arguments()
    if args.read:
        about = json.loads(Path(args.read).read_text())
    else:
        keep_memory()
        about = dict(
            processor=processor(),
            torch=torch.__version__,
            repeats=args.repeats,
            commit=commit(),
            date=time.strftime('%Y-%m-%d'),
        )
        about['rows'] = measure(args)
    rows = about['rows']
    print(*(f'{k} {v}' for k, v in about.items() if k != 'rows'), sep=', ')
    print(f'\n{table(rows)}')
    if args.json:
        args.json.write_text(json.dumps(about, indent=1))


if __name__ == '__main__':
    main()
