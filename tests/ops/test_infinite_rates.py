# SPDX-License-Identifier: Apache-2.0
"""Test scans with channels that forget at once: `A` is -inf, as -exp(A_log) may be."""

import math

import pytest
import torch
from cases import Case
from test_cross_selective_scan import SIZES, both, make

from mmadaptor.ops import cross_selective_scan, selective_scan, selective_scan_states
from mmadaptor.ops.selective_scan import reference

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}
CASES = {
    'part of a piece': Case(channels=5, states=2, length=70),
    'whole pieces': Case(channels=5, states=2, length=64),
    'one step': Case(channels=5, states=2, length=1),
    'gate': Case(channels=33, groups=3, states=3, length=131, gate=True),
}


PLACES = {
    'one step': slice(3, 4),
    'a whole piece': slice(16, 24),
    'the last step': slice(-1, None),
}


def results(function, inputs, delta_softplus=True):
    outputs = function(**inputs, delta_softplus=delta_softplus)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    incoming = [torch.randn(r.shape, generator=generator).to(r.dtype) for r in outputs]
    gradients = torch.autograd.grad(outputs, list(inputs.values()), incoming)
    names = [*(f'result {i}' for i in range(len(outputs))), *inputs]
    return dict(zip(names, [*outputs, *gradients], strict=True))


def check(function, definition, inputs):
    """Compare with the definition, which is finite except for the gradient of delta."""
    with torch.no_grad():
        inputs['A'].flatten(0, -2)[1::3, 0] = -math.inf
    dtype = inputs['A'].dtype
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    expected = results(definition, exact)
    for name, value in results(function, inputs).items():
        if not name.startswith('delta'):
            assert expected[name].isfinite().all(), name
        torch.testing.assert_close(
            value.double(),
            expected[name],
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype],
            equal_nan=True,
            msg=lambda text, name=name: f'{name}: {text}',
        )


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_finite_sequences(case, dtype):
    inputs = case.inputs(dtype)

    def scan(function):
        return lambda **inputs: function(**inputs, return_last_state=True)

    check(scan(selective_scan), scan(reference.selective_scan), inputs)
    for name in ('C', 'D', 'z'):
        inputs.pop(name, None)
    check(selective_scan_states, reference.selective_scan_states, inputs)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_finite_maps(size, dtype):
    def scan(**inputs):
        return cross_selective_scan(**inputs, return_states=True)

    check(scan, both, make(*size, dtype))


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize(
    'step, rate, defined',
    [(0.0, -0.75, True), (0.0, -math.inf, False), (math.nan, None, False)],
    ids=['finite', 'infinite', 'nan'],
)
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_steps_of_zero_or_nan(dtype, step, rate, defined, place):
    """exp(0 A) is 1, even if `A` times log2(e) is infinite; it is NaN for `A` of -inf."""
    case = Case(channels=33, states=2, length=70, softplus=False, bias=False)
    inputs = case.inputs(dtype)
    with torch.no_grad():
        inputs['delta'][:, 1::3, PLACES[place]] = step
        if rate is not None:  # `rate`: in units of the largest number
            inputs['A'][1::3, 0] = rate * torch.finfo(dtype).max

    def scan(function):
        return lambda **inputs: function(**inputs, return_last_state=True)

    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    expected = results(scan(reference.selective_scan), exact, delta_softplus=False)
    assert expected['result 0'].isnan().any() != defined
    if defined:
        del expected['delta']  # of the size of A, which may exceed the range
    actual = results(scan(selective_scan), inputs, delta_softplus=False)
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name].double(),
            value,
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype],
            equal_nan=True,
            msg=lambda text, name=name: f'{name}: {text}',
        )
