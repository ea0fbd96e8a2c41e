"""The CUDA kernels' own source, run by the ops' tests on an emulated device.

AddressSanitizer has to be loaded first, so the tests run in a process of their
own, where the kernels take the place of the CPU's.
"""
import os
import pathlib
import subprocess
import sys

import pytest
from emulation import build

HERE = pathlib.Path(__file__).parent
# Few processors: the directions one after the other, their sum on the chip; in
# blocks of 16 channels if there is no room for 32; or in memory. Many: a map of
# each direction, and paths in segments. And another order of the threads.
DEVICES = {
    'sum on the chip': {},
    '16 channels': dict(EMULATION_SHARED_BYTES='20500'),
    'sum in memory': dict(EMULATION_SHARED_BYTES='9000'),
    'segments': dict(EMULATION_PROCESSORS='64'),
    'last thread first': dict(EMULATION_BACKWARDS='1'),
}


MEMORY_DEVICES = {
    '': {},
    'last thread first': DEVICES['last thread first'],
    'narrow bands': dict(EMULATION_SHARED_BYTES='9500'),
}
# In which the ops are compared with their definitions there; float32 and float64
# if not named, for both half types are in `test_torch_finds_nothing_else`.
DTYPES = {
    'segments': 'float32 or bfloat16',
    'last thread first': 'float32',
    'narrow bands': 'float32 or bfloat16',
}


def definition(device):
    return f"definition and ({DTYPES.get(device, 'float32 or float64')})"


@pytest.fixture(scope='session')
def library():
    return build.build()


def run_tests(library, name, selected, environment):
    """Run some tests of a file with the kernels of a library."""
    sanitizers = [build.sanitizer(f'lib{n}.so') for n in ('asan', 'ubsan')]
    environment = dict(
        os.environ, EMULATION_LIBRARY=str(library),
        LD_PRELOAD=' '.join(sanitizers), ASAN_OPTIONS='detect_leaks=0',
        UBSAN_OPTIONS='halt_on_error=1', **environment)
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-x', '-k', selected, str(HERE / name)],
        env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert 'passed' in done.stdout


@pytest.mark.parametrize('device', DEVICES)
def test_cross_scan(library, device):
    run_tests(library, 'test_cross_scan.py',
              f'{definition(device)} or bit and not threads or one_output',
              DEVICES[device])


@pytest.mark.parametrize('device', ['sum on the chip', 'segments', 'last thread first'])
def test_selective_scan(library, device):
    run_tests(library, 'test_selective_scan.py',
              f'{definition(device)} or nan or last_state', DEVICES[device])


def test_torch_finds_nothing_else(library):
    """Strides, float16, opcheck, autocast, wrong input.

    Gradients are compared with the definition's above, to 1e-12, which gradcheck
    would do to 1e-5 in a thousand launches.
    """
    run_tests(library, 'test_cross_scan.py',
              'strides or flipped or opcheck or autocast or named or refused or '
              'float16', {})
    run_tests(library, 'test_selective_scan.py',
              'strides or flipped or opcheck or autocast or named or float16 or '
              'bit and not threads', {})


@pytest.mark.parametrize('device', MEMORY_DEVICES)
def test_memory_select(library, device):
    dtypes = definition(device) if device else 'definition'
    run_tests(library, 'test_memory_select.py',
              f'{dtypes} or finite or outside or hand_computed or repeats or '
              'strides', MEMORY_DEVICES[device])


def test_memory_readout(library):
    """The composition on a device, its kernels those of memory_select."""
    run_tests(library, 'test_memory_readout.py',
              'definition or finite or outside or hand_computed or strides or '
              'named or opcheck', {})


def test_dilated_depthwise(library):
    """torch's own convolutions, in float32."""
    run_tests(library, 'test_dilated_depthwise.py',
              'definition and not float64 or hand_computed or outside or leave or '
              'named or summed', {})
