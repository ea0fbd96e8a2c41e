# SPDX-License-Identifier: Apache-2.0
"""Time the ops: `python -m benchmarks.ops [--device cuda] [--json FILE]`.

On a CPU, times are given in units of E, one `torch.exp` over a tensor of the size of
delta. E is timed alternately with every row, so that other load on the machine
affects both equally. On a GPU (`benchmarks/ops_cuda.py`), the unit is a copy of the
minimum number of bytes that a pass has to move.

The process keeps freed memory unless `--trim` is given. By default glibc returns it
to the system; how often depends on the layout of the heap, which is a matter of
chance. A fresh page then costs more than the work on it (see
selective_scan/README.md).
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import baselines, ops_cuda
from benchmarks.measuring import commit, elapsed, keep_memory, peak_bytes, processor
from mmadaptor import ops
from mmadaptor.arguments import new_file, positive

LENGTH, SIDE, CHANNELS, DIRECTIONS = 3136, 56, 96, 4
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One op at one shape, with its inputs and options."""

    op: str
    shape: str
    call: Callable[..., Tensor]
    inputs: Inputs
    options: dict


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_normal.generator)


_normal.generator = torch.Generator()


def sequence_row(states: int, groups: int, channels_last: bool) -> Row:
    """Return the row of the 1-D scan at the size of VMamba-T's stage 1.

    Args:
        states: N.
        groups: Number of groups G of `B` and `C`.
        channels_last: Whether channels are contiguous in memory.
    """
    _normal.generator.manual_seed(0)
    channels = DIRECTIONS * CHANNELS

    def maps(*inner: int) -> Tensor:
        if channels_last:
            return _normal(1, LENGTH, *inner).movedim(1, -1)
        return _normal(1, *inner, LENGTH)

    inputs = dict(
        u=maps(channels),
        delta=maps(channels) - 2,
        A=-_normal(channels, states).abs(),
        B=maps(groups, states),
        C=maps(groups, states),
        D=_normal(channels),
        delta_bias=_normal(channels),
    )
    layout = 'channels last' if channels_last else '(B, D, L)'
    return Row(
        'selective_scan',
        f'(1, {channels}, {LENGTH}) N={states} G={groups} {layout}',
        ops.selective_scan,
        inputs,
        dict(delta_softplus=True),
    )


def map_row(name: str, call: Callable[..., Tensor], states: int, options: dict) -> Row:
    """Return the row of the 2-D scan at the size of VMamba-T's stage 1.

    Args:
        name: Name of the row.
        call: The op or its baseline.
        states: N.
        options: Further keyword arguments of `call`.
    """
    _normal.generator.manual_seed(0)
    pixels = (1, SIDE, SIDE)
    inputs = dict(
        x=_normal(*pixels, CHANNELS),
        delta=_normal(*pixels, DIRECTIONS, CHANNELS) - 2,
        A=-_normal(DIRECTIONS, CHANNELS, states).abs(),
        B=_normal(*pixels, DIRECTIONS, states),
        C=_normal(*pixels, DIRECTIONS, states),
        D=_normal(DIRECTIONS, CHANNELS),
        delta_bias=_normal(DIRECTIONS, CHANNELS),
    )
    return Row(
        name, f'(1, {SIDE}, {SIDE}, {CHANNELS}) N={states}', call, inputs, options
    )


def memory_row() -> Row:
    """Return the row of Adaptor-T's gather, two groups of channels and four points."""
    _normal.generator.manual_seed(0)
    groups, points = 2, 4
    pixels = (1, SIDE, SIDE, DIRECTIONS)
    place = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
    place = place.view(1, SIDE, SIDE, 1, 1, 1, 2)
    inputs = dict(
        states=_normal(*pixels, CHANNELS, 1),
        locations=place + 3 * _normal(*pixels, groups, points, 2),
        weights=_normal(*pixels, groups, points),
    )
    return Row(
        'memory_select',
        f'{(*pixels, CHANNELS, 1)} S=2 P=4',
        ops.memory_select,
        inputs,
        {},
    )


def readout_row(name: str, call: Callable[..., Tensor]) -> Row:
    """Return the row of Adaptor-T in one pass, for eight images.

    The number of groups and places is that of Adaptor-T.

    Args:
        name: Name of the row.
        call: The op or its baseline.
    """
    _normal.generator.manual_seed(0)
    groups, places = 2, 4
    pixels = (8, SIDE, SIDE, DIRECTIONS)
    inputs = dict(
        values=_normal(*pixels, CHANNELS),
        predicted=_normal(*pixels, 3 * groups * places),
        coefficients=_normal(*pixels),
    )
    return Row(
        name,
        f'{(*pixels, CHANNELS)} S=2 P=4',
        call,
        inputs,
        dict(granularities=[1.0, 2.0]),
    )


def convolution_row(
    name: str, call: Callable[..., Tensor], side: int, channels: int
) -> Row:
    """Return the row of Adaptor-S's convolutions, for eight images.

    Args:
        name: Name of the row.
        call: The op or its baseline.
        side: Height and width of the map.
        channels: D.
    """
    _normal.generator.manual_seed(0)
    dilations = (1, 2, 3)
    shape = (8, side, side, channels)
    inputs = dict(y=_normal(*shape), kernels=_normal(len(dilations), channels, 3, 3))
    return Row(
        name, f'{shape} dilations {dilations}', call, inputs, dict(dilations=dilations)
    )


def rows() -> list[Row]:
    """Return every row of the table."""
    softplus = dict(delta_softplus=True)
    scans = [
        sequence_row(states, groups, last)
        for states in (1, 16)
        for groups in (1, 4)
        for last in (False, True)
    ]
    maps = [
        row
        for states in (1, 16)
        for row in (
            map_row('cross_selective_scan', ops.cross_selective_scan, states, softplus),
            map_row('composition of it', baselines.cross_selective_scan, states, {}),
        )
    ]
    convolutions = [
        convolution_row(name, call, SIDE // scale, CHANNELS * scale)
        for scale in (1, 2, 4, 8)  # VMamba-T's stages
        for name, call in (
            ('dilated_depthwise', ops.dilated_depthwise),
            ('dilated by torch', baselines.dilated_depthwise),
        )
    ]
    readouts = [
        readout_row('memory_readout', ops.memory_readout),
        readout_row('by memory_select', baselines.memory_readout),
    ]
    return [*scans, *maps, memory_row(), *readouts, *convolutions]


def measure(row: Row, dtype: torch.dtype, repeats: int) -> dict:
    """Time a row in units of E, and measure its memory.

    Args:
        row: The row.
        dtype: Dtype of the maps; parameters stay float32.
        repeats: Number of rounds; the result is the median over rounds.

    Returns:
        Results by column.
    """
    wide = ('A', 'D', 'delta_bias', 'kernels')
    inputs = {
        name: (t if name in wide else t.to(dtype)).requires_grad_()
        for name, t in row.inputs.items()
    }

    def forward() -> Tensor:
        with torch.no_grad():
            return row.call(**inputs, **row.options)

    def step() -> None:
        y = row.call(**inputs, **row.options)
        torch.autograd.grad(y, list(inputs.values()), weight)

    weight = torch.ones_like(forward())
    unit = torch.randn(1, DIRECTIONS * CHANNELS, LENGTH)
    step()
    calls = (lambda: torch.exp(unit), forward, step)
    rounds = [[elapsed(call) for call in calls] for _ in range(repeats)]
    e, forward_time, step_time = map(statistics.median, zip(*rounds, strict=True))
    size = sum(t.numel() * t.element_size() for t in inputs.values())
    return dict(
        op=row.op,
        shape=row.shape,
        dtype=str(dtype).removeprefix('torch.'),
        e_ms=e * 1e3,
        forward_ms=forward_time * 1e3,
        step_ms=step_time * 1e3,
        forward_in_e=forward_time / e,
        step_in_e=step_time / e,
        forward_memory_in_inputs=peak_bytes(forward) / size,
        step_memory_in_inputs=peak_bytes(step) / size,
    )


COLUMNS = dict(
    op='<22',
    shape='<46',
    dtype='<9',
    e_ms='9.3f',
    forward_ms='11.3f',
    step_ms='9.3f',
    forward_in_e='12.2f',
    step_in_e='10.2f',
    forward_memory_in_inputs='25.2f',
    step_memory_in_inputs='22.2f',
)


def line(result: dict) -> str:
    """Format a row of the table."""
    return ' '.join(f'{result[k]:{form}}' for k, form in COLUMNS.items())


def main(device: str = 'cpu') -> None:
    """Print the table.

    Args:
        device: Default of the argument `--device`.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=['cpu', 'cuda'], default=device)
    parser.add_argument(
        '--dtype',
        nargs='+',
        default=['float32'],
        choices=['float32', 'bfloat16', 'float16'],
    )
    parser.add_argument('--threads', type=positive, default=2)
    parser.add_argument('--repeats', type=positive, default=25)
    parser.add_argument('--only', default='', help='only ops whose name contains this')
    parser.add_argument('--json', type=new_file, help='save the results to this file')
    parser.add_argument(
        '--trim', action='store_true', help='return freed memory to the system'
    )
    args = parser.parse_args()
    if args.device == 'cuda':
        ops_cuda.main(args.repeats, args.only, args.json, commit())
        return
    kept = not args.trim and keep_memory()
    torch.set_num_threads(args.threads)
    about = dict(
        processor=processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=args.threads,
        repeats=args.repeats,
        torch=torch.__version__,
        commit=commit(),
        freed_memory='kept' if kept else 'given back',
    )
    print(*(f'{k}: {v}' for k, v in about.items()), sep=', ')
    print(
        ' '.join(
            f'{k:{form.split(".")[0]}}'
            if form[0] == '<'
            else f'{k:>{form.split(".")[0]}}'
            for k, form in COLUMNS.items()
        )
    )
    results = []
    for row in rows():
        for dtype in args.dtype if args.only in row.op else ():
            if 'memory' in row.op and dtype != 'float32':
                continue
            results.append(measure(row, getattr(torch, dtype), args.repeats))
            print(line(results[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(dict(about, rows=results), indent=1))


if __name__ == '__main__':
    main()
