"""An op's tests again, where torch is told to use another instruction set."""
import os
import subprocess
import sys

import pytest
import torch

LEVELS = ['default', 'avx2', 'avx512']  # each has what is before it
each = pytest.mark.parametrize('capability', LEVELS)


def run_tests(capability: str, file: str, names: str) -> None:
    """Run the tests of a file whose names match, in a process of their own."""
    if os.environ.get('ATEN_CPU_CAPABILITY'):
        pytest.skip('this is the subprocess')
    here = torch.backends.cpu.get_cpu_capability().lower()
    if capability == here:
        pytest.skip('this process runs it already')
    # torch would take the processor's word for it, and die.
    if capability not in LEVELS[:LEVELS.index(here) if here in LEVELS else 0]:
        pytest.skip(f'this processor has {here}')
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-k', names, file],
        env=dict(os.environ, ATEN_CPU_CAPABILITY=capability),
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
