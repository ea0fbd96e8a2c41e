# SPDX-License-Identifier: Apache-2.0
"""Run the ops' tests with the CUDA kernels' source on an emulated device.

The emulation finds accesses out of bounds, data races and deadlocks, and refuses the
launches that a device refuses; `test_faults` plants them. AddressSanitizer must be loaded
first, so the tests run in a separate process, where the CUDA kernels replace the CPU
kernels.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from emulation import build

HERE = pathlib.Path(__file__).parent
WIDE = 'float32 or float64'
# For each emulated device: its settings, and the dtypes and ops that are compared.
# - sum on the chip: one multiprocessor; from a batch of 2 on, the directions are processed
#   one after the other, with their sum in shared memory.
# - 16 channels: the same, in blocks of 16 channels, as 32 do not fit.
# - sum in memory: the same, with the sum in global memory.
# - segments: many multiprocessors; one map per direction, and paths in segments.
DEVICES = {
    'sum on the chip': (
        dict(EMULATION_PROCESSORS='1'),
        'float',
        [
            'cross_selective_scan',
            'selective_scan',
            'memory_select',
            'memory_readout',
            'dilated_depthwise',
            'infinite_rates',
        ],
    ),
    '16 channels': (
        dict(EMULATION_SHARED_BYTES='36500', EMULATION_PROCESSORS='1'),
        WIDE,
        ['cross_selective_scan'],
    ),
    'sum in memory': (
        dict(EMULATION_SHARED_BYTES='21000', EMULATION_PROCESSORS='1'),
        WIDE,
        ['cross_selective_scan'],
    ),
    'segments': (
        dict(EMULATION_PROCESSORS='64'),
        'float32 or bfloat16',
        [
            'cross_selective_scan',
            'selective_scan',
            'dilated_depthwise',
            'infinite_rates',
        ],
    ),
}
EVERYWHERE = (
    'bit and not threads or one_output or nan or last_state or finite or '
    'outside or hand_computed or repeats'
)


# New memory is filled with NaN, in every dtype.
ASAN = 'detect_leaks=0:malloc_fill_byte=255:max_malloc_fill_size=1073741824'
# For each program of faults.cu, what the emulation says.
FAULTS = {
    'no barrier': r'race in shared memory, byte \d+:\n'
    r'  block \d warp \d lane \d+ has \w+ it, in .*faults.cu:\d+\n'
    r'  block \d warp \d lane \d+ \w+ it, in .*faults.cu:\d+\n',
    'warp barrier, own warp': None,
    'shuffle instead of a warp barrier': 'race in shared memory',
    'warp barrier, other warp': 'race in shared memory',
    'block barrier': None,
    'no barrier, own number': None,
    'write after read': 'race in shared memory',
    'write after read, barrier': None,
    'write after two reads': 'race in shared memory, byte 0',
    'neighbors': None,
    'blocks write one number': 'race in device memory',
    'blocks write their numbers': None,
    'blocks read and one writes': 'race in device memory',
    'blocks read': None,
    'launch after launch': None,
    'out of bounds': 'AddressSanitizer: heap-buffer-overflow .*(\n.*)*READ of size 4',
    'deadlock': 'deadlock at a barrier or shuffle: 40 of 64 threads',
    'part of a warp': 'no barriers and shuffles of a part of a warp',
    'no blocks': 'refused launch: 0x1x1 blocks',
    'many rows of blocks': 'refused launch: 1x65536x1 blocks',
    'large block': 'refused launch: 1056x1x1 threads',
    'deep block': 'refused launch: 1x1x96 threads',
    'all shared memory': None,
    'more shared memory than there is': 'refused launch: 102401 bytes of shared memory',
    'less shared memory after more': None,
    'shared memory without asking': 'refused launch: 61440 bytes .* 49152 are allowed',
}


@pytest.fixture(scope='session')
def built():
    return build.build()


@pytest.fixture(scope='session')
def library(built):
    return built[0]


@pytest.mark.parametrize('seed', ['0', '1'])
@pytest.mark.parametrize('name', FAULTS)
def test_faults(built, name, seed):
    done = subprocess.run(
        [built[1], name],
        env=dict(os.environ, EMULATION_SEED=seed),
        capture_output=True,
        text=True,
    )
    if FAULTS[name] is None:
        assert done.stdout == 'no fault\n', done.stderr
    else:
        assert done.returncode != 0
        assert re.search(FAULTS[name], done.stderr), done.stderr


def run(library, arguments, **environment):
    """Run Python with the kernels of `library`."""
    sanitizers = [build.sanitizer(f'lib{n}.so') for n in ('asan', 'ubsan')]
    return subprocess.run(
        [sys.executable, *arguments],
        env=dict(
            os.environ,
            EMULATION_LIBRARY=str(library),
            LD_PRELOAD=' '.join(sanitizers),
            ASAN_OPTIONS=ASAN,
            UBSAN_OPTIONS='halt_on_error=1',
            **environment,
        ),
        capture_output=True,
        text=True,
    )


def run_tests(library, ops, selected, environment):
    """Run the selected tests of `ops` with the kernels of `library`."""
    files = [str(HERE / f'test_{op}.py') for op in ops]
    arguments = ['-m', 'pytest', '-v', '-x', '-k', selected, *files]
    done = run(library, arguments, **environment)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    for op in ops:
        assert f'test_{op}.py .' in done.stdout, f'no test of {op} ran'


def test_new_memory_is_nan(library):
    text = 'import torch; assert torch.empty(1000, 1000).isnan().all()'
    done = run(library, ['-c', text])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('device', DEVICES)
def test_the_ops_are_their_definitions(library, device):
    environment, dtypes, ops = DEVICES[device]
    environment = {**environment, 'EMULATION_SEED': str(list(DEVICES).index(device))}
    run_tests(library, ops, f'definition and ({dtypes}) or {EVERYWHERE}', environment)


def test_errors_are_at_most_those_of_a_plain_loop(library):
    """The exponential of the device is emulated with the worst error PTX allows."""
    run_tests(
        library,
        ['accuracy'],
        '256 or 1024 or slow_decays and 4096 or map or neighbors and slow',
        {},
    )


def test_without_D_an_infinite_input_is_not_nan(library):
    """Left out: an infinite state at the end of a path makes the gradient of A NaN."""
    run_tests(library, ['infinite_inputs'], 'hand_computed or maps or -0] or -3]', {})


def test_torch_finds_nothing_else(library):
    """Run tests of strides, opcheck, autocast, wrong inputs and sums of half types.

    gradcheck is left out: `test_the_ops_are_their_definitions` compares gradients with
    the definition's to 1e-12; gradcheck compares to 1e-5, in a thousand launches.
    """
    run_tests(
        library,
        [
            'cross_selective_scan',
            'selective_scan',
            'memory_select',
            'memory_readout',
            'dilated_depthwise',
            'strides',
            'autocast',
        ],
        'strides or flipped or opcheck or autocast or named or refused or '
        'leave or summed or allocate',
        {},
    )


def test_what_only_cuda_refuses(library):
    run_tests(
        library, ['cuda_refusals'], 'refused', dict(EMULATION_SHARED_BYTES='9000')
    )
