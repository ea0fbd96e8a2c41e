# SPDX-License-Identifier: Apache-2.0
"""Run the ops' tests with each instruction set that torch can be set to use."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

HERE = pathlib.Path(__file__).parent
LEVELS = ['default', 'avx2', 'avx512']  # each includes those before it
VECTORISED = [
    'accuracy',
    'cross_selective_scan',
    'dilated_depthwise',
    'memory_readout',
    'memory_select',
    'selective_scan',
]
NAMES = (
    'accuracy or definition or bit or finite or outside or hand_computed or half or '
    'strides'
)


@pytest.mark.parametrize('capability', LEVELS)
def test_every_instruction_set(capability):
    here = torch.backends.cpu.get_cpu_capability().lower()
    if capability == here:
        pytest.skip('this process runs it already')
    # torch does not check for support and would crash with an illegal instruction.
    if capability not in LEVELS[: LEVELS.index(here) if here in LEVELS else 0]:
        pytest.skip(f'this processor has {here}')
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'pytest',
            '-q',
            '-k',
            NAMES,
            *(str(HERE / f'test_{op}.py') for op in VECTORISED),
        ],
        env=dict(os.environ, ATEN_CPU_CAPABILITY=capability),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
