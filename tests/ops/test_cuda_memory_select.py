# SPDX-License-Identifier: Apache-2.0
"""Test memory_select and memory_readout on a GPU against the CPU; see test_cuda.py."""

import os

import pytest
import test_memory_readout
import torch
from test_cuda import SANITIZED
from test_memory_select import SIZES, gradients, make

from mmadaptor.ops import memory_readout, memory_select

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'),
]
READOUTS = [*test_memory_readout.SIZES, (2, 56, 56, 4, 96, 2, 4)]
LARGE = [(2, 56, 56, 4, 96, 1, 2, 4), (1, 50, 80, 4, 384, 1, 2, 4)]
if SANITIZED in os.environ:
    LARGE, SIZES = [(1, 14, 14, 4, 32, 1, 2, 4)], SIZES[:2]
    READOUTS = READOUTS[:2]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}


def on_gpu(inputs):
    return {
        name: t.detach().cuda().requires_grad_() if torch.is_tensor(t) else t
        for name, t in inputs.items()
    }


def assert_equals_the_cpu(expected, actual, tolerance):
    for name, b in expected.items():
        a = actual[name]
        assert a.device.type == 'cuda' and a.dtype == b.dtype
        assert b.isfinite().all(), name
        scale = max(b.abs().max().item(), 1.0) if b.numel() else 1.0
        torch.testing.assert_close(
            a.cpu(),
            b,
            rtol=0,
            atol=tolerance * scale,
            msg=lambda text, name=name: f'{name}: {text}',
        )


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', [*SIZES, *LARGE], ids=str)
def test_it_equals_the_cpu(size, dtype):
    inputs = make(*size, dtype)
    assert_equals_the_cpu(
        gradients(memory_select, inputs),
        gradients(memory_select, on_gpu(inputs)),
        TOLERANCE[dtype],
    )


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', READOUTS, ids=str)
def test_the_readout_equals_the_cpu(size, dtype):
    inputs = test_memory_readout.make(*size, dtype)
    of = test_memory_readout.gradients
    assert_equals_the_cpu(
        of(memory_readout, inputs), of(memory_readout, on_gpu(inputs)), TOLERANCE[dtype]
    )


@pytest.mark.parametrize('size', LARGE, ids=str)
def test_repeats_are_equal_bit_for_bit(size):
    results = []
    for _ in range(2):
        inputs = on_gpu(make(*size, torch.float32))
        memory = memory_select(**inputs)
        results.append(
            [memory, *torch.autograd.grad(memory.square().sum(), list(inputs.values()))]
        )
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_graph_captures_forward_and_backward():
    inputs = on_gpu(make(*LARGE[0], torch.float32))
    weight = torch.randn(inputs['states'].shape, device='cuda')

    def step():
        memory = memory_select(**inputs)
        return [memory, *torch.autograd.grad(memory, list(inputs.values()), weight)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        inputs['states'].normal_()
        inputs['locations'][0, 0, 0, 0, 0, 0, 0] = float('nan')
    graph.replay()
    for a, b in zip(captured, step(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
