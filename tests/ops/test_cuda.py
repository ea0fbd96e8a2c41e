# SPDX-License-Identifier: Apache-2.0
"""Test the ops on a GPU against the CPU: `make test-cuda`.

Requires only torch and pytest, like `mmadaptor.ops`.
"""

import math
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch
from cases import CASES
from test_cross_selective_scan import SIZES, TOLERANCE, make
from test_dilated_depthwise import SIZES as MAPS
from test_dilated_depthwise import make as make_map

from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
    dilated_depthwise,
    selective_scan,
    selective_scan_states,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# With at least one block per multiprocessor, each block takes all four directions.
PROCESSORS = (
    torch.cuda.get_device_properties(0).multi_processor_count
    if torch.cuda.is_available()
    else 132
)
OF_192, OF_96 = math.ceil(PROCESSORS / 6), math.ceil(PROCESSORS / 3)
# In order: enough blocks for all multiprocessors; one image, in segments; enough
# blocks, with the sum in shared memory in blocks of 16 channels; the same with a sum
# too large for shared memory; many states.
LARGE = [
    (OF_192, 28, 28, 192, 1),
    (1, 56, 56, 96, 1),
    (OF_96, 56, 56, 96, 1),
    (OF_96, 57, 90, 96, 1),
    (2, 14, 14, 384, 16),
]
SANITIZED = 'MMADAPTOR_SANITIZED'
if SANITIZED in os.environ:  # one small call of each plan: a sanitizer takes long
    LARGE = [(1, 28, 28, 33, 1), (PROCESSORS, 3, 5, 4, 2)]
    DTYPES, SIZES, MAPS = DTYPES[:2], SIZES[:2], MAPS[:2]
    CASES = {name: CASES[name] for name in ('mamba', 'fixed both')}


def on_gpu(inputs):
    return {name: t.detach().cuda().requires_grad_() for name, t in inputs.items()}


def results_of(function, inputs):
    """Return outputs and all gradients."""
    results = function(**inputs)
    results = results if isinstance(results, tuple) else (results,)
    generator = torch.Generator().manual_seed(1)
    weights = [
        torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r)
        for r in results
    ]
    return [*results, *torch.autograd.grad(results, list(inputs.values()), weights)]


def compare(function, inputs, dtype):
    names = ['output'] * 2 + list(inputs)
    expected = results_of(function, inputs)
    actual = results_of(function, on_gpu(inputs))
    for name, a, b in zip(names[-len(actual) :], actual, expected, strict=True):
        assert a.device.type == 'cuda' and a.dtype == b.dtype
        assert b.isfinite().all(), name
        scale = max(b.abs().max().item(), 1.0) if b.numel() else 1.0
        torch.testing.assert_close(
            a.cpu().double(),
            b.double(),
            rtol=0,
            atol=2 * TOLERANCE[dtype] * scale,
            msg=lambda text, name=name: f'{name}: {text}',
        )


def scan(**inputs):
    return cross_selective_scan(**inputs, delta_softplus=True)


def scan_and_states(**inputs):
    return cross_selective_scan(**inputs, delta_softplus=True, return_states=True)


def states_alone(**inputs):
    return cross_selective_scan_states(**inputs, delta_softplus=True)


def sequence(**inputs):
    return selective_scan(**inputs, delta_softplus=True, return_last_state=True)


def sequence_states(**inputs):
    return selective_scan_states(**inputs, delta_softplus=True)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('size', [*SIZES, *LARGE[:2]], ids=str)
def test_cross_selective_scan(size, dtype):
    compare(scan, make(*size, dtype), dtype)


@pytest.mark.parametrize('size', LARGE[2:], ids=str)
def test_large_cross_selective_scan(size):
    compare(scan, make(*size, torch.float32), torch.float32)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_states(size, dtype):
    inputs = make(*size, dtype)
    compare(scan_and_states, inputs, dtype)
    del inputs['C'], inputs['D']
    compare(states_alone, inputs, dtype)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_sequences(case, dtype):
    inputs = case.inputs(dtype)
    compare(sequence, inputs, dtype)
    used = ('u', 'delta', 'A', 'B', 'delta_bias')
    compare(sequence_states, {k: v for k, v in inputs.items() if k in used}, dtype)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_readout(size):
    batch, height, width, channels, states = size
    pixels = (batch, height, width, 4)
    inputs = dict(
        states=torch.randn(*pixels, channels, states).requires_grad_(),
        C=torch.randn(*pixels, states).requires_grad_(),
    )
    compare(cross_readout, inputs, torch.float32)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('size, dilations', MAPS, ids=str)
def test_dilated_depthwise(size, dilations, dtype):
    y, kernels = make_map(size, dilations, dtype)
    compare(
        lambda y, kernels: dilated_depthwise(y, kernels, dilations),
        dict(y=y, kernels=kernels),
        dtype,
    )


@pytest.mark.parametrize('size', LARGE, ids=str)
def test_repeats_are_equal_bit_for_bit(size):
    inputs = on_gpu(make(*size, torch.bfloat16))
    first, second = results_of(scan, inputs), results_of(scan, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize('size', LARGE[:2], ids=str)
def test_a_graph_captures_forward_and_backward(size):
    # No autograd graph from another stream may be alive during the capture.
    inputs = on_gpu(make(*size, torch.bfloat16))
    weight = torch.randn_like(inputs['x'])

    def step():
        y = scan(**inputs)
        return [y, *torch.autograd.grad(y, list(inputs.values()), weight)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        inputs['x'].normal_()
    graph.replay()
    for a, b in zip(captured, step(), strict=True):
        assert torch.equal(a, b)


def test_another_stream():
    inputs = on_gpu(make(*LARGE[0], torch.float32))
    expected = scan(**inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        with torch.no_grad():
            inputs['x'].neg_()
        y = scan(**inputs)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(y, -expected)


def test_wrong_input_says_the_same_as_on_the_cpu():
    inputs = make(2, 3, 4, 5, 1, torch.float32)
    inputs['A'] = inputs['A'][:3]
    messages = []
    for tensors in (inputs, on_gpu(inputs)):
        with pytest.raises(ValueError) as error:
            scan(**tensors)
        messages.append(str(error.value).splitlines()[0])
    assert messages[0] == messages[1]


@pytest.mark.skipif(
    shutil.which('compute-sanitizer') is None, reason='no compute-sanitizer'
)
@pytest.mark.parametrize('tool', ['memcheck', 'racecheck', 'synccheck'])
def test_compute_sanitizer(tool):
    # torch's caching allocator hands out parts of larger allocations, and the sanitizer
    # does not see accesses beyond such a part.
    environment = {**os.environ, SANITIZED: '1', 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'}
    done = subprocess.run(
        [
            'compute-sanitizer',
            '--tool',
            tool,
            '--report-api-errors',
            'no',
            '--error-exitcode',
            '1',
            sys.executable,
            '-m',
            'pytest',
            '-x',
            '-k',
            'not sanitizer and not captures and not another_stream',
            *(
                str(pathlib.Path(__file__).with_name(f'test_{name}.py'))
                for name in ('cuda', 'cuda_memory_select')
            ),
        ],
        capture_output=True,
        text=True,
        env=environment,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout[-6000:]
