# SPDX-License-Identifier: Apache-2.0
"""Test that every row of the GPU benchmark runs and has gradients of all inputs."""

import pytest
import torch

from benchmarks.ops_cuda import rows

SHAPES = ((1, 3, 4, 6, 1), (1, 3, 4, 6, 2))
OPS = ['cross_selective_scan'] * 2 + [
    'dilated_depthwise',
    'dilated by torch',
    'memory_readout',
]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32], ids=str)
def test_every_row(dtype):
    made = list(rows(dtype, 'cpu', SHAPES))
    assert [row.op for row in made] == OPS[: 5 if dtype == torch.float32 else 4]
    for row in made:
        y = row.run()
        assert y.shape == row.shape[:-1]
        grads = torch.autograd.grad(y.sum(), list(row.inputs.values()))
        assert all(grad.isfinite().all() for grad in grads)
