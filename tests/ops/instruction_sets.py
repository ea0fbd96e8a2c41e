"""An op's tests again, where torch is told to use another instruction set."""
import os
import subprocess
import sys

import pytest
import torch

each = pytest.mark.parametrize('capability', ['default', 'avx2', 'avx512'])


def run_tests(capability: str, file: str, names: str) -> None:
    """Run the tests of a file whose names match, in a process of their own."""
    if os.environ.get('ATEN_CPU_CAPABILITY'):
        pytest.skip('this is the subprocess')
    if capability.upper() == torch.backends.cpu.get_cpu_capability():
        pytest.skip('this process runs it already')
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-k', names, file],
        env=dict(os.environ, ATEN_CPU_CAPABILITY=capability),
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
