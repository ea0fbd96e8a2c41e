# SPDX-License-Identifier: Apache-2.0
"""Run the ops' tests with the CUDA kernels' source on an emulated device.

AddressSanitizer must be loaded first, so the tests run in a separate process, where
the CUDA kernels replace the CPU kernels.
"""

import os
import pathlib
import subprocess
import sys

import pytest
from emulation import build

HERE = pathlib.Path(__file__).parent
WIDE = 'float32 or float64'
# For each emulated device: its settings, and the dtypes and ops that are compared.
# - sum on the chip: few multiprocessors; the directions are processed one after the
#   other, with their sum in shared memory.
# - 16 channels: the same, in blocks of 16 channels, as 32 do not fit.
# - sum in memory: the same, with the sum in global memory.
# - segments: many multiprocessors; one map per direction, and paths in segments.
# - last thread first: another order of the threads.
DEVICES = {
    'sum on the chip': (
        {},
        'float',
        [
            'cross_selective_scan',
            'selective_scan',
            'memory_select',
            'memory_readout',
            'dilated_depthwise',
        ],
    ),
    '16 channels': (
        dict(EMULATION_SHARED_BYTES='20500'),
        WIDE,
        ['cross_selective_scan'],
    ),
    'sum in memory': (
        dict(EMULATION_SHARED_BYTES='9000'),
        WIDE,
        ['cross_selective_scan'],
    ),
    'segments': (
        dict(EMULATION_PROCESSORS='64'),
        'float32 or bfloat16',
        ['cross_selective_scan', 'selective_scan', 'dilated_depthwise'],
    ),
    'last thread first': (
        dict(EMULATION_BACKWARDS='1'),
        'float32',
        [
            'cross_selective_scan',
            'selective_scan',
            'memory_select',
            'memory_readout',
            'dilated_depthwise',
        ],
    ),
}
EVERYWHERE = (
    'bit and not threads or one_output or nan or last_state or finite or '
    'outside or hand_computed or repeats'
)


@pytest.fixture(scope='session')
def library():
    return build.build()


def run_tests(library, ops, selected, environment):
    """Run the selected tests of `ops` with the kernels of `library`."""
    sanitizers = [build.sanitizer(f'lib{n}.so') for n in ('asan', 'ubsan')]
    environment = dict(
        os.environ,
        EMULATION_LIBRARY=str(library),
        LD_PRELOAD=' '.join(sanitizers),
        ASAN_OPTIONS='detect_leaks=0',
        UBSAN_OPTIONS='halt_on_error=1',
        **environment,
    )
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'pytest',
            '-v',
            '-x',
            '-k',
            selected,
            *(str(HERE / f'test_{op}.py') for op in ops),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    for op in ops:
        assert f'test_{op}.py .' in done.stdout, f'no test of {op} ran'


@pytest.mark.parametrize('device', DEVICES)
def test_the_ops_are_their_definitions(library, device):
    environment, dtypes, ops = DEVICES[device]
    run_tests(library, ops, f'definition and ({dtypes}) or {EVERYWHERE}', environment)


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
        ],
        'strides or flipped or opcheck or autocast or named or refused or '
        'leave or summed',
        {},
    )
