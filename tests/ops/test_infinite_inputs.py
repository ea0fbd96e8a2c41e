# SPDX-License-Identifier: Apache-2.0
"""Test scans of infinite inputs without `D`: what is absent adds nothing, not 0 inf."""

import math

import pytest
import torch
from cases import Case
from test_cross_selective_scan import make

from mmadaptor.ops import cross_selective_scan, selective_scan
from mmadaptor.ops.cross_selective_scan import reference as cross
from mmadaptor.ops.selective_scan import reference

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}
CASES = {
    'one state': Case(channels=5, length=70, skip=False),
    'several states': Case(channels=33, groups=3, states=3, length=131, skip=False),
    'gate': Case(channels=9, states=2, length=70, skip=False, gate=True),
}


def noise(like):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def compare(function, definition, inputs, incoming):
    """Compare results and gradients with the definition, NaN with NaN."""
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    expected = [definition(**exact, delta_softplus=True)]
    expected += torch.autograd.grad(expected[0], exact.values(), incoming.double())
    actual = [function(**inputs, delta_softplus=True)]
    actual += torch.autograd.grad(actual[0], inputs.values(), incoming)
    tolerance = TOLERANCE[incoming.dtype]
    for name, value, true in zip(['y', *inputs], actual, expected, strict=True):
        torch.testing.assert_close(
            value.double(),
            true,
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=lambda text, name=name: f'{name}: {text}',
        )
    return expected


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_a_hand_computed_case(dtype):
    u = torch.tensor([[[1.0, math.inf, 1.0]]], dtype=dtype)
    ones = torch.ones_like(u)
    y = selective_scan(u, ones, -ones[0, :, :1], ones, ones)
    assert y.flatten().tolist() == [1, math.inf, math.inf]


@pytest.mark.parametrize('place', [0, 3, 64, -1])
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_infinite_inputs_and_gradients_of_sequences(case, dtype, place):
    inputs = case.inputs(dtype)
    incoming = noise(inputs['u'])

    def infinite(tensor):
        with torch.no_grad():
            tensor[:, 1::3, place] = math.inf

    infinite(inputs['u'])
    y, *_ = compare(selective_scan, reference.selective_scan, inputs, incoming)
    assert y.isinf().any()
    inputs = case.inputs(dtype)
    infinite(incoming)
    _, gradient, *_ = compare(
        selective_scan, reference.selective_scan, inputs, incoming
    )
    assert not gradient.isfinite().all()


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('states', [1, 3])
def test_infinite_inputs_and_gradients_of_maps(states, dtype):
    def of(infinite):
        inputs = make(2, 9, 11, 20, states, dtype)
        del inputs['D']
        incoming = noise(inputs['x'])
        tensor = dict(x=inputs['x'], incoming=incoming)[infinite]
        with torch.no_grad():
            tensor[:, 4, 3, ::3] = math.inf
            for name in 'BC':  # so that no inf - inf hides a NaN
                inputs[name].abs_()
        return inputs, incoming

    functions = (cross_selective_scan, cross.cross_selective_scan)
    y, *_ = compare(*functions, *of('x'))
    assert y.isinf().any()
    _, gradient, *_ = compare(*functions, *of('incoming'))
    assert not gradient.isfinite().all()
