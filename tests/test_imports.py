# SPDX-License-Identifier: Apache-2.0
"""Importing the package, whatever else is installed or missing."""

import os
import subprocess
import sys

import pytest
from helpers.jobs import ROOT

CODE = """
import sys
for name in {missing}:
    sys.modules[name] = None  # as if it were not installed
import torch
from mmadaptor.ops import selective_scan
u = torch.ones(1, 1, 3)
print(selective_scan(u, u, -u[0, :, :1], u, u).flatten().tolist())
loaded = [name for name in ('mmengine', 'mmcv', 'mmadaptor.models') if sys.modules.get(name)]
print(loaded)
"""


@pytest.mark.parametrize(
    'missing', [['mmcv'], ['mmengine'], ['mmengine', 'mmcv', 'cv2', 'yaml', 'rich']]
)
def test_ops_without_the_rest(missing, tmp_path):
    result = subprocess.run(
        [sys.executable, '-c', CODE.format(missing=missing)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 0, result.stderr
    y, loaded = result.stdout.splitlines()
    # y_t = h_t, h_t = exp(-1) h_(t-1) + 1
    values = [float(value) for value in y.strip('[]').split(', ')]
    assert values == pytest.approx([1.0, 1.3679, 1.5032], abs=1e-4)
    assert loaded == '[]'


STUBS = {
    'torch': "__version__ = '2.11.0'",
    'mmengine': "__version__ = '0.10.12'",
    'mmcv': "__version__ = '2.1.0'",
}


@pytest.mark.parametrize('removed', [False, True])
def test_mmcv_that_is_too_old_or_removed(removed, tmp_path):
    """A removal may leave a folder, which is a namespace; the ops need no mmcv."""
    for name, text in STUBS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text(text)
    if removed:
        (tmp_path / 'mmcv' / '__init__.py').unlink()
    result = subprocess.run(
        [sys.executable, '-S', '-c', 'import mmadaptor'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'},
    )
    if removed:
        assert result.returncode == 0, result.stderr
    else:
        error = f'\nImportError: mmcv 2.1.0 in {tmp_path}/mmcv is older than 2.3.6: '
        assert error in result.stderr
