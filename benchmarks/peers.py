# SPDX-License-Identifier: Apache-2.0
"""Compare with other packages: `python -m benchmarks.peers [--ops] [--models]`.

The scan beside that of onnxruntime, mambapy, transformers, torch.compile and others,
classifiers beside those of timm, in one process and in turn, so that other load affects
all of them. Before a scan is timed, its output and gradients are compared with those of
float64; one that differs, fails or is missing is named in the table instead. Prints the
tables of docs/speed.md. `make peers` sets up an environment with the packages and runs
it; `--ipex` adds intel-extension-for-pytorch, which needs a torch of its own.

Times are medians over the rounds; a scan that has taken 20 seconds leaves them, after
three. Memory is the growth of the peak of the resident set over a second call, in a
process of its own that returns freed memory at once, of onnxruntime without its arena;
on a GPU what torch allocates there.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
import warnings
from pathlib import Path

import torch

from benchmarks.measuring import commit, keep_memory, processor
from benchmarks.peer_scans import CASES, OURS, PEERS

PACKAGES = (
    'torch',
    'onnxruntime',
    'transformers',
    'mambapy',
    'assoc-scan',
    'accelerated-scan',
    'timm',
)


def versions() -> dict[str, str]:
    """Return the versions of the packages; `missing` for those that are."""
    found = dict.fromkeys(PACKAGES, 'missing')
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def python(text: str) -> Path:
    """Read the path of a Python; argparse names the argument of a wrong one."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.X_OK):
        problem = f'expected an executable file, got {text!r}'
        raise argparse.ArgumentTypeError(problem)
    return path.absolute()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    # Not above: processes that measure memory import this module.
    from mmadaptor.arguments import filled, new_file, positive

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ops', action='store_true', help='scans alone')
    parser.add_argument('--models', action='store_true', help='classifiers alone')
    parser.add_argument('--threads', type=positive, default=torch.get_num_threads())
    parser.add_argument('--repeats', type=positive, default=11)
    parser.add_argument(
        '--only',
        type=filled,
        metavar='NAME',
        help='peers whose name contains this, and mmadaptor',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--dtype',
        choices=['float32', 'bfloat16'],
        default='float32',
        help='of the classifiers; bfloat16 by autocast',
    )
    parser.add_argument(
        '--ipex',
        type=python,
        metavar='PYTHON',
        help='a Python with torch 2.8 and intel-extension-for-pytorch',
    )
    parser.add_argument('--json', type=new_file, help='save the results to this file')
    args = parser.parse_args()
    if args.device == 'cuda':
        if args.models:
            parser.error('--device cuda: expected --ops, got --models')
        if not torch.cuda.is_available():
            raise SystemExit('--device cuda: torch found no GPU.')
        args.ops = True
    return args


def scans(args: argparse.Namespace) -> list[dict]:
    """Measure the scans and print their tables."""
    from benchmarks.scan_table import measure, tables

    only = args.only or ''
    chosen = tuple(peer for peer in PEERS if peer is OURS or only in peer.name)
    rows = []
    for case in CASES:
        rows += measure(case, args.repeats, args.ipex, args.device, chosen)
        print(f'{case.title}: done', file=sys.stderr, flush=True)
    print(tables(rows), flush=True)
    return rows


def classifiers(args: argparse.Namespace) -> list[dict]:
    """Measure the classifiers and print their table."""
    from benchmarks.model_table import MODELS, measure, table

    ours = [name for name, (package, *_) in MODELS.items() if package == 'mmadaptor']
    names = [name for name in MODELS if name in ours or (args.only or '') in name]
    rows = measure(names, args.repeats, getattr(torch, args.dtype))
    print(table(rows), flush=True)
    return rows


def main() -> None:
    """Print the tables; end with 1 if a peer failed or differed."""
    args = arguments()
    warnings.simplefilter('ignore')  # of other packages, about themselves
    os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')  # also of processes
    keep_memory()
    torch.set_num_threads(args.threads)
    about = dict(
        processor=processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        device=args.device,
        threads=args.threads,
        repeats=args.repeats,
        versions=versions(),
        commit=commit(),
        date=time.strftime('%Y-%m-%d'),
    )
    if args.device == 'cuda':
        about['gpu'] = torch.cuda.get_device_name()
    named = {k: v for k, v in about.items() if k != 'versions'} | about['versions']
    print(', '.join(f'{name} {value}' for name, value in named.items()), end='\n\n')
    both = args.ops == args.models
    rows = dict(
        scans=scans(args) if args.ops or both else [],
        models=classifiers(args) if args.models or both else [],
    )
    if args.json:
        args.json.write_text(json.dumps(about | rows, indent=1))
    failed = [row['peer'] for row in rows['scans'] if row.get('failed')]
    if failed:
        raise SystemExit(f'Failed or not equal: {", ".join(dict.fromkeys(failed))}')


if __name__ == '__main__':
    main()
