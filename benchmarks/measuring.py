# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measure with. Needs torch alone, without mmadaptor."""

import ctypes
import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def keep_memory() -> bool:
    """Make glibc keep freed memory; return whether glibc is present and accepts it."""
    trim_threshold, most_mappings = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(set_option(most_mappings, 0) and set_option(trim_threshold, 2**31 - 1))


def digest(data: Any) -> str:
    """Return a hash of plain values, to tell whether a figure is of its data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def elapsed(call: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the peak memory in bytes that torch's allocator holds during a call."""
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        call()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def processor() -> str:
    """Return the model name of the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [n.partition(':')[2].strip() for n in lines if 'model name' in n]
    return names[0] if names else platform.machine()


def commit() -> str:
    """Return the current commit, with a + if there are uncommitted changes."""
    described = subprocess.run(
        ['git', 'describe', '--always', '--dirty=+'],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return described.stdout.strip() or 'unknown'


def in_turn(
    clocks: Mapping[Any, Callable[[], float]],
    repeats: int,
    budget: float = float('inf'),
    least: int = 3,
    rest: float = 0.0,
) -> dict[Any, float]:
    """Time functions alternately, so that other load affects all of them.

    Args:
        clocks: Functions that run once and return the seconds taken, by key.
        repeats: Number of rounds.
        budget: Seconds after which a function leaves the rounds.
        least: Number of rounds that each function takes part in at least.
        rest: Seconds to sleep before each call. The threads of many libraries keep
            their cores busy for a while after a call, which slows the next library.

    Returns:
        Median of the seconds by key.
    """
    times: dict[Any, list[float]] = {key: [] for key in clocks}
    for count in range(repeats):
        for key, clock in clocks.items():
            if count < least or sum(times[key]) < budget:
                time.sleep(rest)
                times[key].append(clock())
    return {key: statistics.median(seconds) for key, seconds in times.items()}


def resident_growth(call: Callable[[], object]) -> int:
    """Return by how many bytes a call raises the peak of the resident memory.

    It is called once before, so that caches are not counted. In a process without
    :func:`in_child` freed memory that the process has kept hides a part.

    Raises:
        OSError: The system has no `/proc/self/clear_refs`, as Linux has.
    """
    call()
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts from here
    before = _status('VmRSS')
    call()
    return _status('VmHWM') - before


def _status(name: str) -> int:
    """Return a size of `/proc/self/status` in bytes."""
    lines = Path('/proc/self/status').read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f'{name}:'))
    return int(line.split()[1]) * 1024


RETURNING = dict(MALLOC_MMAP_THRESHOLD_='65536', MALLOC_TRIM_THRESHOLD_='65536')
"""Variables with which glibc returns freed memory at once."""


def in_child(function: Callable, *arguments: Any) -> Any:
    """Call a function in a new process that returns freed memory to the system.

    Args:
        function: Importable by its name.
        arguments: Its arguments, which are pickled.

    Raises:
        BrokenProcessPool: The process ended, as without enough memory.
    """
    before = {name: os.environ.get(name) for name in RETURNING}
    os.environ.update(RETURNING)
    try:
        # A Pool would wait for ever for a process that was killed.
        spawn = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent p of the power law `value = c size^p` nearest in logarithms.

    Args:
        sizes: At least two different numbers above 0.
        values: As many numbers above 0.

    Raises:
        ValueError: They are too few, or not above 0.
    """
    if len(sizes) != len(values) or len(set(sizes)) < 2:
        raise ValueError(
            'expected two or more sizes and as many values, got '
            f'{len(sizes)} and {len(values)}'
        )
    if min(*sizes, *values) <= 0:
        raise ValueError(f'expected numbers above 0, got {sizes} and {values}')
    x, y = (torch.tensor(t, dtype=torch.float64).log() for t in (sizes, values))
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
