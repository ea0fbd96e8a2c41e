# SPDX-License-Identifier: Apache-2.0
"""Compile the CUDA kernels for each GPU architecture; needs nvcc but no GPU."""

import pathlib
import re
import shutil
import subprocess

import pytest

CSRC = pathlib.Path(__file__).parents[2] / 'mmadaptor' / 'csrc' / 'cuda'
ARCHITECTURES = (80, 90, 120)  # as in setup.py
SOURCES = sorted(path.name for path in CSRC.glob('*.cu'))

nvcc = shutil.which('nvcc')


@pytest.mark.skipif(nvcc is None, reason='no nvcc')
@pytest.mark.parametrize('source', SOURCES)
def test_no_register_is_spilled(source, tmp_path):
    known = subprocess.run(
        [nvcc, '--list-gpu-arch'], capture_output=True, text=True, check=True
    ).stdout
    for architecture in ARCHITECTURES:
        if f'compute_{architecture}' not in known:
            continue
        done = subprocess.run(
            [
                nvcc,
                '-std=c++17',
                '-O3',
                f'-arch=sm_{architecture}',
                '-cubin',
                '-Xptxas',
                '-v',
                str(CSRC / source),
                '-o',
                str(tmp_path / 'cubin'),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert 'warning' not in done.stderr
        kernels = re.findall(r"entry function '(\w+)'", done.stderr)
        spills = re.findall(
            r'(\d+) bytes spill stores, (\d+) bytes spill loads', done.stderr
        )
        assert len(spills) >= len(kernels) > 0
        assert set(spills) == {('0', '0')}, (architecture, list(zip(kernels, spills)))
