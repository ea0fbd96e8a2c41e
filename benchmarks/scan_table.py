# SPDX-License-Identifier: Apache-2.0
"""The scans of all peers: checked equal, timed in turn, and their memory."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.ipex_scan import IpexScan
from benchmarks.measuring import elapsed, in_child, in_turn, markdown, resident_growth
from benchmarks.peer_scans import OURS, PEERS, Case, Inputs, Peer, Scan, ours

IPEX = 'intel-extension-for-pytorch'
TOLERANCES = dict(output=1e-4, gradient=5e-4)
"""Largest difference from float64 over the largest value, of a peer that is timed."""
SECONDS = 20.0
"""After as many seconds a peer leaves the rounds."""
KINDS = ('forward', 'step')


class Unequal(Exception):
    """A result differs from that of float64."""


def forward(call: Scan, inputs: Inputs) -> Tensor:
    """Compute the output without gradients."""
    with torch.no_grad():
        return call(**inputs)


def step(call: Scan, inputs: Inputs) -> tuple[Tensor, ...]:
    """Compute the output and, for weights 1 to 2 of its elements, all gradients."""
    leaves = {name: t.detach().requires_grad_() for name, t in inputs.items()}
    y = call(**leaves)
    weight = torch.linspace(1, 2, y.shape[-1], dtype=y.dtype, device=y.device)
    return torch.autograd.grad(y, list(leaves.values()), weight.expand_as(y))


def difference(name: str, value: Tensor, expected: Tensor, tolerance: float) -> float:
    """Return the largest difference over the largest absolute expected value.

    Args:
        name: Name of the tensor in messages.
        value: What a peer computed.
        expected: Float64.
        tolerance: Largest that is allowed.

    Raises:
        Unequal: It is larger, not a number, or the shapes differ.
    """
    if value.shape != expected.shape:
        raise Unequal(
            f'{name}: expected {tuple(expected.shape)}, got {tuple(value.shape)}'
        )
    found = float((value - expected).abs().max() / expected.abs().max())
    if not found <= tolerance:
        raise Unequal(f'{name}: expected within {tolerance:g}, got {found:.1e}')
    return found


def differences(
    call: Scan, inputs: Inputs, with_step: bool, expected: tuple[Tensor, tuple]
) -> dict[str, float]:
    """Compare the output and the gradients of a scan with those in float64.

    Args:
        call: The scan.
        inputs: Its inputs, float32.
        with_step: Whether to compare gradients.
        expected: Output and gradients.

    Returns:
        The largest difference of `output` and, with gradients, of `gradient`.

    Raises:
        Unequal: One is above `TOLERANCES`.
    """
    y, gradients = expected
    tolerance = TOLERANCES['output']
    found = dict(output=difference('output', forward(call, inputs), y, tolerance))
    if with_step:
        triples = zip(inputs, step(call, inputs), gradients, strict=True)
        found['gradient'] = max(
            difference(f'gradient of {name}', value, right, TOLERANCES['gradient'])
            for name, value, right in triples
        )
    return found


RUNS = dict(zip(KINDS, (forward, step), strict=True))


def exactly(inputs: Inputs) -> tuple[Tensor, tuple]:
    """Return the output and the gradients of our op in float64."""
    wide = {name: t.double() for name, t in inputs.items()}
    return forward(ours, wide), step(ours, wide)


def synchronized(call: Callable[[], object], device: str) -> float:
    """Return the seconds of a call, to its end on the device."""

    def whole() -> None:
        call()
        if device == 'cuda':
            torch.cuda.synchronize()

    return elapsed(whole)


def growths(
    peer: str, case: Case, kinds: Sequence[str], threads: int, device: str
) -> dict[str, int]:
    """Return the peak memory of calls over their inputs, in bytes by kind.

    Args:
        peer: Name of the peer.
        case: Sizes.
        kinds: Some of `KINDS`.
        threads: Number of threads.
        device: On `'cuda'` the memory that torch allocates there is counted.
    """
    torch.set_num_threads(threads)
    (found,) = (p for p in PEERS if p.name == peer)
    inputs = case.inputs(device)
    call = found.build(inputs)
    measured = resident_growth if device == 'cpu' else allocated_growth
    return {kind: measured(partial(RUNS[kind], call, inputs)) for kind in kinds}


def allocated_growth(call: Callable[[], object]) -> int:
    """Return by how many bytes a call raises the peak that torch allocates on a GPU."""
    call()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


@dataclass
class Entry:
    """A peer at some sizes.

    Args:
        row: Its results so far.
        clocks: What returns the seconds of a call, by kind.
        scale: Returns the bytes of a call, by kind.
    """

    row: dict
    clocks: dict[str, Callable[[], float]] = field(default_factory=dict)
    scale: Callable[[], dict[str, int]] = dict


def _prepared(
    peer: Peer, case: Case, inputs: Inputs, expected: tuple, device: str
) -> Entry:
    """Prepare a peer and compare it with float64."""
    row: dict = dict(peer=peer.name, case=case.title)
    if problem := peer.problem(case, device):
        return Entry(row | dict(problem=problem))
    with_step = peer.has_step(case)
    try:
        call = peer.build(inputs)
        row['differences'] = differences(call, inputs, with_step, expected)
    except Unequal as error:
        return Entry(row | dict(problem=f'unequal: {error}', failed=True))
    except Exception as error:  # the other peers are measured all the same
        text = f'failed: {type(error).__name__}: {str(error).strip()[:100]}'
        return Entry(row | dict(problem=text, failed=True))
    row['quadratic'] = peer.gradients and not with_step
    kinds = KINDS if with_step else KINDS[:1]
    clocks = {
        kind: partial(synchronized, partial(RUNS[kind], call, inputs), device)
        for kind in kinds
    }
    of = (peer.name, case, kinds, torch.get_num_threads(), device)
    return Entry(row, clocks, partial(in_child, growths, *of))


def _ipex(
    stack: ExitStack, python: Path | None, case: Case, inputs: Inputs, expected: Tensor
) -> Entry:
    """Start the scan of intel-extension-for-pytorch and compare it with float64.

    Args:
        stack: Ends the other process.
        python: Its Python, or None.
        case: Sizes.
        inputs: Inputs of the scan, on the CPU.
        expected: The output in float64.
    """
    row: dict = dict(peer=IPEX, case=case.title)
    if python is None:
        return Entry(row | dict(problem='missing: no --ipex PYTHON was given'))

    def start(returning: bool) -> IpexScan:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        threads = torch.get_num_threads()
        scan = IpexScan(python, inputs, threads, folder, returning)
        stack.callback(scan.close)
        return scan

    scan, tolerance = start(returning=False), TOLERANCES['output']
    row['versions'] = scan.versions
    try:
        found = difference('output', scan.output(), expected, tolerance)
    except Unequal as error:
        return Entry(row | dict(problem=f'unequal: {error}', failed=True))
    row['differences'] = dict(output=found)
    weigher = start(returning=True)
    return Entry(
        row, dict(forward=scan.seconds), lambda: dict(forward=weigher.growth())
    )


def measure(
    case: Case,
    repeats: int,
    ipex: Path | None,
    device: str = 'cpu',
    peers: tuple[Peer, ...] = PEERS,
) -> list[dict]:
    """Compare, time and weigh the peers at some sizes.

    Args:
        case: The sizes.
        repeats: Number of rounds; times are medians over them.
        ipex: Python with intel-extension-for-pytorch, or None.
        device: `'cpu'` or `'cuda'`.
        peers: The peers.

    Returns:
        A row for each peer, with seconds, bytes and differences, or with a `problem`.
    """
    torch._dynamo.reset()
    inputs = case.inputs(device)
    expected = exactly(inputs)
    entries = []
    with ExitStack() as stack:
        if device == 'cpu':
            entries.append(_ipex(stack, ipex, case, inputs, expected[0]))
        entries[:0] = [_prepared(p, case, inputs, expected, device) for p in peers]
        clocks = {
            (number, kind): clock
            for number, entry in enumerate(entries)
            for kind, clock in entry.clocks.items()
        }
        times = in_turn(clocks, repeats, SECONDS, rest=0.3)
        for number, entry in enumerate(entries):
            entry.row['seconds'] = {kind: times[number, kind] for kind in entry.clocks}
            entry.row['bytes'] = entry.scale()
    return [entry.row for entry in entries]


def _pair(row: dict, of: str, text: Callable[[str, float], str]) -> str:
    """Return the cell `forward / forward and backward`, or `forward` alone."""
    cells = [text(kind, row[of][kind]) for kind in KINDS if kind in row[of]]
    return ' / '.join(cells) + (' / not run' if row.get('quadratic') else '')


def tables(rows: list[dict]) -> str:
    """Format times, memory and differences as tables, a column for each case.

    Args:
        rows: Rows of :func:`measure`.
    """
    found = {(row['peer'], row['case']): row for row in rows}
    peers = list(dict.fromkeys(row['peer'] for row in rows))
    cases = list(dict.fromkeys(row['case'] for row in rows))

    def cell(peer: str, case: str, of: str) -> str:
        row, base = found[peer, case], found[OURS.name, case]
        if 'problem' in row:
            return row['problem']
        if of == 'differences':
            return ' / '.join(f'{value:.0e}' for value in row[of].values())
        if of == 'bytes':
            return _pair(row, of, lambda _, value: f'{value / 2**20:.0f}')
        if peer == OURS.name:
            return _pair(row, of, lambda _, value: f'{value * 1e3:.1f} ms')
        return _pair(row, of, lambda kind, value: f'{value / base[of][kind]:.1f}')

    titles = dict(
        seconds="Time, over that of mmadaptor's op: forward / forward and backward",
        bytes='Peak memory over the inputs, in MiB: forward / forward and backward',
        differences='Largest difference from float64, over the largest value: '
        'output / gradients',
    )
    return '\n\n'.join(
        f'{title}:\n\n'
        + markdown(['', *cases], [[p, *(cell(p, c, of) for c in cases)] for p in peers])
        for of, title in titles.items()
    )
