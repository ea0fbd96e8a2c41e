# SPDX-License-Identifier: Apache-2.0
"""Test the compiled scan against its definition, and its integration into torch."""

import subprocess
import sys

import pytest
import torch
from cases import CASES, NAMES, Case
from helpers.op_errors import assert_refused

from benchmarks.ops import measure, sequence_row
from mmadaptor.ops import selective_scan, selective_scan_states
from mmadaptor.ops.selective_scan import reference

TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 3e-6,
    torch.bfloat16: 2e-2,
    torch.float16: 2e-3,
}


def assert_near(name, actual, expected, dtype):
    # Relative to the largest element, or to its summands, which are of the order of 1.
    scale = expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(
        actual,
        expected,
        rtol=0,
        atol=TOLERANCE[dtype] * max(scale, 1.0),
        msg=lambda text: f'{name}: {text}',
    )


def scan(function, case, inputs):
    return function(**inputs, delta_softplus=case.softplus, return_last_state=True)


def scan_states(function, case, inputs):
    used = {
        k: v for k, v in inputs.items() if k in ('u', 'delta', 'A', 'B', 'delta_bias')
    }
    return (function(**used, delta_softplus=case.softplus),)


def compare(call, compiled, definition, case, dtype):
    """Compare outputs and all gradients with the definition in float64."""
    inputs = case.inputs(dtype)
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    results, expected = call(compiled, case, inputs), call(definition, case, exact)
    generator = torch.Generator().manual_seed(1)
    weights = [
        torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r.dtype)
        for r in results
    ]
    for i, (result, reference_result) in enumerate(zip(results, expected)):
        assert_near(f'output {i}', result.double(), reference_result, dtype)
    gradients = torch.autograd.grad(
        results, list(inputs.values()), weights, allow_unused=True
    )
    expected = torch.autograd.grad(
        expected, list(exact.values()), [w.double() for w in weights], allow_unused=True
    )
    for name, gradient, value in zip(inputs, gradients, expected):
        assert (gradient is None) == (value is None), name
        if gradient is not None:
            assert gradient.dtype == inputs[name].dtype
            assert_near(f'gradient of {name}', gradient.double(), value, dtype)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_scan_equals_its_definition(case, dtype):
    compare(scan, selective_scan, reference.selective_scan, case, dtype)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_states_equal_their_definition(case, dtype):
    compare(
        scan_states, selective_scan_states, reference.selective_scan_states, case, dtype
    )


def test_a_hand_computed_scan():
    one = torch.ones(1, 1, 3)
    half = torch.log(torch.tensor([[0.5]]))
    y, last = selective_scan(
        one,
        one,
        half,
        2 * one,
        torch.tensor([[[1.0, 10.0, 100.0]]]),
        D=torch.ones(1),
        return_last_state=True,
    )
    # h = 2, 3, 3.5;  y = C h + u
    torch.testing.assert_close(y, torch.tensor([[[3.0, 31.0, 351.0]]]))
    torch.testing.assert_close(last, torch.tensor([[[3.5]]]))


@pytest.mark.parametrize('name', ['mamba', 'fixed C', 'groups, no extras'])
def test_gradcheck(name):
    case = CASES[name]
    case = Case(**{**vars(case), 'channels': 4, 'length': 5, 'states': 2})
    inputs = case.inputs()

    def function(*tensors):
        return selective_scan(
            **dict(zip(inputs, tensors)),
            delta_softplus=case.softplus,
            return_last_state=True,
        )

    assert torch.autograd.gradcheck(function, tuple(inputs.values()))


@pytest.mark.parametrize('name', ['vmamba', 'fixed B', 'empty batch'])
def test_opcheck(name):
    inputs = CASES[name].inputs(torch.float32)
    arguments = tuple(inputs.get(n) for n in NAMES)
    torch.library.opcheck(
        torch.ops.mmadaptor.selective_scan.default, (*arguments, True)
    )
    u, delta, A, B, *_, bias = arguments
    torch.library.opcheck(
        torch.ops.mmadaptor.selective_scan_states.default, (u, delta, A, B, bias, True)
    )


def run_all(inputs):
    y = selective_scan(**inputs, delta_softplus=True)
    return [y, *torch.autograd.grad(y.square().sum(), list(inputs.values()))]


def test_repeats_are_equal_bit_for_bit():
    inputs = CASES['more blocks than one'].inputs(torch.float32)
    first, second = run_all(inputs), run_all(inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize(
    'case',
    [
        Case(batch=3, channels=150, states=2, length=70),
        # torch divides a sum that is a single number among its threads.
        Case(batch=40000, channels=1, length=1),
    ],
    ids=str,
)
def test_threads_do_not_change_a_bit(case):
    inputs = case.inputs(torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(run_all(inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_strides_do_not_matter():
    inputs = Case(channels=20, states=3, length=40, gate=True).inputs(torch.float32)
    strided = {}
    for name, t in inputs.items():
        wide = t.detach().repeat_interleave(2, dim=-1)
        strided[name] = wide[..., ::2].requires_grad_()
        assert t.dim() < 2 or not strided[name].is_contiguous()
    for a, b in zip(run_all(inputs), run_all(strided)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_expanded_and_flipped_inputs():
    inputs = Case(channels=4, length=9).inputs(torch.float32)
    inputs['u'] = torch.linspace(-1, 1, 9).expand(2, 4, 9).flip(-1)
    y = selective_scan(**inputs, delta_softplus=True)
    torch.testing.assert_close(
        y, reference.selective_scan(**inputs, delta_softplus=True)
    )


def test_autocast_lowers_maps_and_keeps_parameters():
    inputs = CASES['vmamba'].inputs(torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
        states = selective_scan_states(
            inputs['u'], inputs['delta'], inputs['A'], inputs['B']
        )
    assert y.dtype == torch.bfloat16
    assert last.dtype == states.dtype == torch.float32
    low = {
        k: v.bfloat16() if k in ('u', 'delta', 'B', 'C') else v
        for k, v in inputs.items()
    }
    torch.testing.assert_close(
        y, selective_scan(**low, delta_softplus=True), rtol=0, atol=0
    )
    y.float().sum().backward()
    assert inputs['A'].grad.dtype == torch.float32


def test_large_steps_and_nan():
    inputs = Case(channels=2, length=4).inputs(torch.float32)
    with torch.no_grad():
        inputs['delta'][:] = 1e4
        assert selective_scan(**inputs, delta_softplus=True).isfinite().all()
        inputs['delta'][0, 0, 2] = float('nan')
        y = selective_scan(**inputs, delta_softplus=True)
    assert y.isnan().nonzero().tolist() == [[0, 0, 2], [0, 0, 3]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('where', ['delta', 'delta_bias'])
def test_an_infinite_step_keeps_earlier_gradients_finite(where, dtype):
    """Values and gradients are inf or NaN where the definition's are."""
    inputs = Case(channels=3, length=70, skip=False).inputs(dtype)
    for name in ('u', 'B', 'C'):
        inputs[name] = inputs[name].detach().abs().requires_grad_()
    with torch.no_grad():
        if where == 'delta':
            inputs['delta'][0, 1, 66] = float('inf')
        else:
            inputs['delta_bias'][1] = float('inf')
    results = {}
    for function in (selective_scan, reference.selective_scan):
        y = function(**inputs, delta_softplus=True)
        grads = torch.autograd.grad(y.sum(), list(inputs.values()))
        results[function] = y, *grads
    for name, actual, expected in zip(
        ('y', *inputs), results[selective_scan], results[reference.selective_scan]
    ):
        torch.testing.assert_close(
            actual,
            expected,
            rtol=1e-4,
            atol=1e-5,
            equal_nan=True,
            msg=lambda text, name=name: f'{name}: {text}',
        )
    if where == 'delta':
        y, grad_u, grad_delta = results[selective_scan][:3]
        assert y[0, 1, 66:].isinf().all() and y[0, 1, :66].isfinite().all()
        assert grad_delta[:, :, :66].isfinite().all()
        assert grad_u[:, :, :66].isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_a_closed_gate_is_finite(dtype):
    """-1e38 times its sigmoid is -0; -1e38 times y would be -inf in float32."""
    inputs = Case(channels=2, length=5, gate=True).inputs(dtype)
    with torch.no_grad():
        inputs['D'][:] = 4
        inputs['z'][:, :, ::2] = -1e38
    results = {}
    for function in (selective_scan, reference.selective_scan):
        y = function(**inputs, delta_softplus=True)
        grad_y = torch.full_like(y, 4)
        results[function] = y, *torch.autograd.grad(y, list(inputs.values()), grad_y)
    y = results[selective_scan][0]
    assert not y[:, :, ::2].any() and y[:, :, 1::2].all()
    for name, actual, expected in zip(('y', *inputs), *results.values()):
        torch.testing.assert_close(
            actual,
            expected,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text, name=name: f'{name}: {text}',
        )


MIXED = {'B': (2, 3), 'C': (3, 2), 'both': (2, 2), 'varying': (3, 4)}


@pytest.mark.parametrize('low', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('ranks', MIXED.values(), ids=MIXED)
def test_float32_coefficients_beside_half_maps(ranks, low):
    """As mamba_ssm takes them: constant B and C are float32 whatever u is."""
    B, C = ranks
    case = Case(channels=4, states=2, length=9, B=B, C=C, gate=True)
    inputs = case.inputs(torch.float32)
    kept = (
        {'B', 'C'} if B == 3 and C == 4 else {n for n in 'BC' if getattr(case, n) < 3}
    )
    for name in {'u', 'delta', 'B', 'C', 'z'} - kept:
        inputs[name] = inputs[name].detach().to(low).requires_grad_()
    y, last = scan(selective_scan, case, inputs)
    grads = torch.autograd.grad(y.float().sum(), list(inputs.values()))
    wide = {k: v.detach().float().requires_grad_() for k, v in inputs.items()}
    exact, exact_last = scan(selective_scan, case, wide)
    assert y.dtype == low and torch.equal(y, exact.to(low))
    assert torch.equal(last, exact_last)
    expected = torch.autograd.grad(exact.sum(), list(wide.values()))
    for (name, t), grad, value in zip(inputs.items(), grads, expected):
        assert grad.dtype == t.dtype, name
        assert torch.equal(grad, value.to(t.dtype)), name
    if 'B' in kept:
        states = scan_states(selective_scan_states, case, inputs)[0]
        assert torch.equal(states, scan_states(selective_scan_states, case, wide)[0])


def test_float64_coefficients_beside_half_maps_are_named():
    inputs = CASES['fixed B'].inputs(torch.bfloat16)
    inputs['B'] = inputs['B'].double()
    with pytest.raises(ValueError, match='`B` must be bfloat16 .*got float64'):
        selective_scan(**inputs)


@pytest.mark.parametrize('name', ['delta', 'C', 'z'])
@pytest.mark.parametrize('wrong', [torch.float64, torch.int64, torch.complex64, None])
def test_others_beside_float32_coefficients_are_named(name, wrong):
    """Only maps in the dtype of u are copied to float32."""
    case = Case(B=2, C=3, gate=True)
    inputs = {k: v.detach() for k, v in case.inputs(torch.float32).items()}
    for low in ('u', 'delta', 'C', 'z'):
        inputs[low] = inputs[low].bfloat16()
    if wrong is None:
        inputs[name], message = [], f"for argument '{name}'"
    else:
        inputs[name] = inputs[name].to(wrong)
        message = f'`{name}` must be .*got {str(wrong).removeprefix("torch.")}'
    with pytest.raises((ValueError, RuntimeError), match=message):
        selective_scan(**inputs)
    if name == 'delta':
        with pytest.raises((ValueError, RuntimeError), match=message):
            selective_scan_states(*(inputs[k] for k in ('u', 'delta', 'A', 'B')))


def test_last_state_alone_has_a_gradient():
    inputs = CASES['mamba'].inputs(torch.float64)
    _, last = scan(selective_scan, CASES['mamba'], inputs)
    _, exact = scan(reference.selective_scan, CASES['mamba'], inputs)
    for a, b in zip(
        torch.autograd.grad(last.sum(), inputs['delta']),
        torch.autograd.grad(exact.sum(), inputs['delta']),
    ):
        torch.testing.assert_close(a, b)


WRONG = {
    'rank of u': (
        dict(u=torch.ones(2, 6)),
        r'`u` must have 3 dimensions .*got shape \[2, 6\]',
    ),
    'no channels': (
        dict(u=torch.ones(2, 0, 7)),
        r'`u` has no channels, got shape \[2, 0, 7\]',
    ),
    'no steps': (dict(u=torch.ones(2, 6, 0)), r'`u` has no steps in time'),
    'no states': (dict(A=torch.ones(6, 0)), r'`A` has no states'),
    'integers': (
        dict(u=torch.ones(2, 6, 7, dtype=torch.long)),
        r'`u` must be float32, float64, float16 or bfloat16, got int64',
    ),
    'length of delta': (
        dict(delta=torch.ones(2, 6, 8)),
        r'`delta` must have shape \[2, 6, 7\].*got \[2, 6, 8\]',
    ),
    'dtype of delta': (
        dict(delta=torch.ones(2, 6, 7).double()),
        r'`delta` must be float32 \(the dtype of `u`\), got float64',
    ),
    'complex A': (
        dict(A=torch.ones(6, 1, dtype=torch.cfloat)),
        r'`A` must be float32 .*got complex64',
    ),
    'low A': (dict(A=torch.ones(6, 1).bfloat16()), r'`A` must be float32.*bfloat16'),
    'channels of A': (
        dict(A=torch.ones(5, 1)),
        r'`A` must have shape \[6, 1\].*got \[5, 1\]',
    ),
    'rank of B': (
        dict(B=torch.ones(1)),
        r'`B` must have 4 dimensions.*got shape \[1\]',
    ),
    'states of B': (
        dict(B=torch.ones(2, 1, 3, 7)),
        r'`B` must have shape \[2, 1, 1, 7\].*got \[2, 1, 3, 7\]',
    ),
    'groups': (
        dict(B=torch.ones(2, 4, 1, 7), C=torch.ones(2, 4, 1, 7)),
        r'groups of `B` and `C` must divide the 6 channels.*got 4',
    ),
    'no groups': (
        dict(B=torch.ones(2, 0, 1, 7), C=torch.ones(2, 0, 1, 7)),
        r'`B` has no groups, got shape \[2, 0, 1, 7\]',
    ),
    'groups of C': (
        dict(C=torch.ones(2, 2, 1, 7)),
        r'`C` must have shape \[2, 1, 1, 7\].*got \[2, 2, 1, 7\]',
    ),
    'shape of D': (dict(D=torch.ones(7)), r'`D` must have shape \[6\].*got \[7\]'),
    'shape of z': (
        dict(z=torch.ones(2, 6, 6)),
        r'`z` must have shape \[2, 6, 7\].*got \[2, 6, 6\]',
    ),
    'delta_bias': (
        dict(delta_bias=torch.ones(6, 1)),
        r'`delta_bias` must have shape \[6\].*got \[6, 1\]',
    ),
    'layout': (
        dict(delta=torch.ones(2, 6, 7).to_sparse()),
        r'`delta` must be a dense tensor, got torch.sparse_coo',
    ),
    'device': (
        dict(delta=torch.ones(2, 6, 7, device='meta')),
        r'`delta` must be on cpu like the first argument, got meta',
    ),
}


@pytest.mark.parametrize('change, message', WRONG.values(), ids=WRONG)
def test_wrong_input_is_named(change, message):
    inputs = {k: v.detach() for k, v in Case().inputs(torch.float32).items()}
    with pytest.raises((ValueError, RuntimeError), match=message):
        selective_scan(**{**inputs, **change}, delta_softplus=True)


def test_a_wrong_gradient_is_named():
    inputs = {k: v.detach() for k, v in Case().inputs(torch.float32).items()}
    arguments = [
        inputs.get(name)
        for name in ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')
    ]
    y, last, checkpoints = torch.ops.mmadaptor.selective_scan(*arguments, True)
    assert_refused(
        torch.ops.mmadaptor.selective_scan_backward,
        y,
        last.half(),
        *arguments,
        True,
        checkpoints,
        message=r'`grad_last_state` must be float32 \(that of `A`\)',
    )


def test_without_the_library_the_call_says_how_to_build_it():
    code = (
        'from pathlib import Path; Path.exists = lambda path: False;'
        'from mmadaptor.ops import selective_scan as f; f(*[None] * 5)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "RuntimeError: mmadaptor's compiled ops are not built" in done.stderr
    assert ' install --force-reinstall --no-deps ' in done.stderr


def test_memory_does_not_grow_with_the_states():
    """Only y and one state per chunk are stored; all states would be 7x the inputs."""
    row = sequence_row(16, 4, False)
    assert measure(row, torch.float32, 1)['forward_memory_in_inputs'] < 1


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_gates_that_are_huge_or_not_finite(dtype):
    """As F.silu: -0 and not NaN where e^-z overflows."""
    huge = torch.finfo(dtype).max
    values = [-torch.inf, -huge, -1e38, -100.0, -0.0, 0.0, 100.0, huge, torch.inf]
    z = torch.tensor([*values, torch.nan], dtype=dtype).repeat(2)  # whole vectors
    one = torch.ones(1, len(z), 1, dtype=dtype)
    coefficient = torch.ones(1, 1, 1, dtype=dtype)
    still = torch.zeros(len(z), 1, dtype=dtype)
    y = selective_scan(one, one, still, coefficient, coefficient, z=z.view_as(one))
    expected = torch.nn.functional.silu(z).view_as(y)
    torch.testing.assert_close(y, expected, equal_nan=True)
    assert torch.equal(y.signbit()[~y.isnan()], expected.signbit()[~y.isnan()])
