# SPDX-License-Identifier: Apache-2.0
"""The ops need only torch, whatever else is installed or missing."""

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
