# SPDX-License-Identifier: Apache-2.0
"""Test scans some channels of which forget at once: `A` is -inf, as -exp(A_log) may be."""

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


def results(function, inputs):
    outputs = function(**inputs, delta_softplus=True)
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
