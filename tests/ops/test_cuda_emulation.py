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
        env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert 'passed' in done.stdout


@pytest.mark.parametrize('environment', [{}, {'EMULATION_BACKWARDS': '1'}],
                         ids=['', 'last thread first'])
def test_readout(library, environment):
    run_tests(library, 'test_cross_scan.py', 'readout', environment)


@pytest.mark.parametrize('environment', [
    {}, {'EMULATION_BACKWARDS': '1'}, {'EMULATION_SHARED_BYTES': '9500'}],
    ids=['', 'last thread first', 'narrow bands'])
def test_memory_select(library, environment):
    run_tests(library, 'test_memory_select.py',
              'definition or finite or outside or hand_computed or repeats or '
              'strides', environment)
