# SPDX-License-Identifier: Apache-2.0
"""Compile the CUDA kernels for each GPU architecture; needs nvcc but no GPU."""

import ast
import functools
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from benchmarks import machine_code

SETUP = (machine_code.CSRC.parents[2] / 'setup.py').read_text()
NAMES = ast.literal_eval(re.search(r'^ARCHITECTURES = (.*)$', SETUP, re.M)[1])
# The oldest, the recorded and the newest one; the build compiles all.
ARCHITECTURES = [int(name.replace('.', '')) for name in (NAMES[0], '9.0', NAMES[-1])]
GROWTH = 1.03
"""Instructions over the recorded ones that are allowed."""

pytestmark = pytest.mark.skipif(shutil.which('nvcc') is None, reason='no nvcc')


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
    """Return a function that compiles a file for an architecture, once."""
    folder = tmp_path_factory.mktemp('cubins')

    @functools.cache
    def compile_file(name: str, architecture: int) -> tuple[pathlib.Path, str]:
        cubin = folder / f'{name}.{architecture}'
        source = machine_code.CSRC / name
        return cubin, machine_code.compile_file(source, architecture, cubin)

    return compile_file


@pytest.mark.parametrize('source', machine_code.SOURCES)
def test_no_register_is_spilled(compiled, source):
    known = subprocess.run(
        ['nvcc', '--list-gpu-arch'], capture_output=True, text=True, check=True
    ).stdout
    for architecture in ARCHITECTURES:
        if f'compute_{architecture}' not in known:
            continue
        messages = compiled(source, architecture)[1]
        assert 'warning' not in messages
        kernels = re.findall(r"entry function '(\w+)'", messages)
        spills = re.findall(
            r'(\d+) bytes spill stores, (\d+) bytes spill loads', messages
        )
        assert len(spills) >= len(kernels) > 0
        assert set(spills) == {('0', '0')}, (architecture, list(zip(kernels, spills)))


@pytest.mark.parametrize('source', machine_code.SOURCES)
def test_machine_code_is_within_what_is_recorded(compiled, source):
    record = json.loads(machine_code.RESULTS.read_text())
    if machine_code.release() != record['nvcc']:
        pytest.skip(f'recorded with nvcc {record["nvcc"]}')
    if machine_code.find_nvdisasm() is None:
        pytest.skip('no nvdisasm')
    kernels = machine_code.describe(*compiled(source, 90))
    bounds = record['files'][source]
    update = f'python -m benchmarks.machine_code --only {source} --json FILE'
    assert kernels.keys() == bounds.keys(), f'run {update}'
    for name, kernel in kernels.items():
        bound = bounds[name]
        assert kernel['registers'] <= bound['registers'], name
        for count in ('instructions', 'per_element'):
            assert kernel.get(count, 0) <= GROWTH * bound.get(count, 0), name
