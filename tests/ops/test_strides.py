# SPDX-License-Identifier: Apache-2.0
"""Test that the strides of dimensions of size 1, which torch leaves open, mean nothing."""

import itertools

import pytest
import torch
from cases import Case
from test_cross_selective_scan import make as make_scan
from test_dilated_depthwise import make as make_map
from test_memory_readout import make as make_readout
from test_memory_select import make as make_select

from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
    dilated_depthwise,
    memory_readout,
    memory_select,
    selective_scan,
    selective_scan_states,
)

STRIDES = (1, 7, 2**40 + 1)


def with_ones(*sizes):
    """Set each size, each two of them and all of them to 1."""
    found = []
    for count in (1, 2, len(sizes)):
        for ones in itertools.combinations(range(len(sizes)), count):
            found.append(tuple(1 if i in ones else n for i, n in enumerate(sizes)))
    return found


def results(function, inputs, change):
    """Return results and gradients, with changed arguments and incoming gradients."""
    inputs = {k: change(v.detach()).requires_grad_() for k, v in inputs.items()}
    outputs = function(**inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    incoming = [
        change(torch.randn(r.shape, generator=generator).to(r.dtype)) for r in outputs
    ]
    return [*outputs, *torch.autograd.grad(outputs, list(inputs.values()), incoming)]


def check(function, inputs):
    """Compare every result and gradient, bit for bit."""
    expected = results(function, inputs, torch.Tensor.contiguous)
    for stride in STRIDES:

        def odd(t, stride=stride):
            strides = [
                stride if n == 1 else s
                for n, s in zip(t.shape, t.stride(), strict=True)
            ]
            return t.as_strided(t.shape, strides)

        for i, (a, b) in enumerate(
            zip(results(function, inputs, odd), expected, strict=True)
        ):
            assert torch.equal(a, b), f'result {i} at stride {stride}'


@pytest.mark.parametrize('size', with_ones(2, 3, 4, 5, 2), ids=str)
def test_cross_selective_scan(size):
    inputs = make_scan(*size, torch.float32)
    check(lambda **i: cross_selective_scan(**i, return_states=True), inputs)
    C = inputs.pop('C')
    del inputs['D']
    check(cross_selective_scan_states, inputs)
    states = cross_selective_scan_states(**inputs)
    check(cross_readout, dict(states=states, C=C))


@pytest.mark.parametrize('ranks', [(2, 2), (3, 3), (4, 4), (2, 4)], ids=str)
@pytest.mark.parametrize('size', with_ones(2, 3, 5, 2), ids=str)
def test_selective_scan(size, ranks):
    batch, channels, length, states = size
    for groups in {1, channels}:
        case = Case(batch, channels, groups, states, length, *ranks, gate=True)
        inputs = case.inputs(torch.float32)
        check(lambda **i: selective_scan(**i, return_last_state=True), inputs)
        for name in 'CDz':
            del inputs[name]
        check(selective_scan_states, inputs)


@pytest.mark.parametrize('size', with_ones(2, 3, 4, 5, 2), ids=str)
def test_dilated_depthwise(size):
    *size, count = size
    dilations = (1, 2)[:count]
    y, kernels = make_map(size, dilations, torch.float32)
    check(
        lambda y, kernels: dilated_depthwise(y, kernels, dilations),
        dict(y=y, kernels=kernels),
    )


@pytest.mark.parametrize('size', with_ones(2, 3, 4, 2, 4, 2, 1, 3), ids=str)
def test_memory_select(size):
    check(memory_select, make_select(*size, torch.float32))


@pytest.mark.parametrize('size', with_ones(2, 3, 4, 2, 4, 1, 3), ids=str)
def test_memory_readout(size):
    inputs = make_readout(*size, torch.float32)
    granularities = inputs.pop('granularities')
    check(lambda **i: memory_readout(**i, granularities=granularities), inputs)
