# SPDX-License-Identifier: Apache-2.0
"""Test second and forward-mode derivatives through every op: right, or an error."""

from functools import partial

import pytest
import torch
from torch.autograd import forward_ad

from mmadaptor import ops
from mmadaptor.ops._dispatch import find_problem


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def scan_inputs(**extra):
    return dict(
        u=normal(1, 2, 3, seed=1),
        delta=normal(1, 2, 3, seed=2),
        A=-normal(2, 2, seed=3).abs(),
        B=normal(1, 2, 3, seed=4),
        **extra,
        delta_bias=normal(2, seed=5),
    )


def map_inputs(**extra):
    return dict(
        x=normal(1, 2, 2, 2, seed=1),
        delta=normal(1, 2, 2, 4, 2, seed=2),
        A=-normal(4, 2, 1, seed=3).abs(),
        B=normal(1, 2, 2, 4, 1, seed=4),
        **extra,
        delta_bias=normal(4, 2, seed=5),
    )


# The function with its options, and the tensors; places are apart from pixel centers,
# where the gather has a kink.
CASES = {
    'selective_scan': (
        partial(ops.selective_scan, delta_softplus=True, return_last_state=True),
        scan_inputs(
            C=normal(2, 2, seed=6), D=normal(2, seed=7), z=normal(1, 2, 3, seed=8)
        ),
    ),
    'selective_scan_states': (
        partial(ops.selective_scan_states, delta_softplus=True),
        scan_inputs(),
    ),
    'cross_selective_scan': (
        partial(ops.cross_selective_scan, delta_softplus=True, return_states=True),
        map_inputs(C=normal(1, 2, 2, 4, 1, seed=6), D=normal(4, 2, seed=7)),
    ),
    'cross_selective_scan_states': (
        partial(ops.cross_selective_scan_states, delta_softplus=True),
        map_inputs(),
    ),
    'cross_readout': (
        ops.cross_readout,
        dict(states=normal(1, 2, 1, 4, 2, 2), C=normal(1, 2, 1, 4, 2, seed=1)),
    ),
    'memory_select': (
        ops.memory_select,
        dict(
            states=normal(1, 2, 3, 1, 2, 2),
            locations=normal(1, 2, 3, 1, 2, 2, 2, seed=1) + 0.7,
            weights=normal(1, 2, 3, 1, 2, 2, seed=2),
        ),
    ),
    'memory_readout': (
        lambda values, predicted, coefficients: ops.memory_readout(
            values, predicted, [1.0, 2.0], coefficients
        ),
        dict(
            values=normal(1, 2, 3, 2, 2),
            predicted=normal(1, 2, 3, 2, 12, seed=1),
            coefficients=normal(1, 2, 3, 2, seed=2),
        ),
    ),
    'dilated_depthwise': (
        lambda y, kernels: ops.dilated_depthwise(y, kernels, [1, 2]),
        dict(y=normal(1, 3, 2, 2), kernels=normal(2, 2, 3, 3, seed=1)),
    ),
}


def positional(case, **changes):
    """Return a function of the tensors alone, and the tensors."""
    function, inputs = CASES[case]
    names = list(inputs)
    return (
        lambda *tensors: function(**dict(zip(names, tensors, strict=True))),
        [changes.get(name, t.clone().requires_grad_()) for name, t in inputs.items()],
    )


def scalar(result):
    """Return a number that depends on all of a result, and not linearly."""
    results = result if isinstance(result, tuple) else (result,)
    return sum((r * r.sin()).sum() for r in results)


def test_every_op_is_here():
    assert set(CASES) == set(ops.__all__)


@pytest.mark.parametrize('case', CASES)
def test_second_derivatives(case):
    function, inputs = positional(case)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize('case', CASES)
def test_forward_mode(case):
    function, inputs = positional(case)
    assert torch.autograd.gradcheck(
        function, inputs, check_forward_ad=True, check_backward_ad=False
    )


@pytest.mark.parametrize('case', CASES)
def test_torch_func_agrees_with_autograd(case):
    """jvp, jacfwd and the Hessian (forward over reverse mode) of torch.func."""
    function, inputs = positional(case)

    def energy(*tensors):
        return scalar(function(*tensors))

    numbers = tuple(range(len(inputs)))
    tangents = [normal(*t.shape, seed=9) for t in inputs]
    grads = torch.autograd.grad(energy(*inputs), inputs, create_graph=True)
    slope = sum((g * t).sum() for g, t in zip(grads, tangents))
    products = torch.autograd.grad(slope, inputs)
    plain = tuple(t.detach() for t in inputs)
    _, pushed = torch.func.jvp(energy, plain, tuple(tangents))
    torch.testing.assert_close(pushed, slope.detach())
    for actual, expected in zip(torch.func.jacfwd(energy, numbers)(*plain), grads):
        torch.testing.assert_close(actual, expected.detach())
    hessian = torch.func.hessian(energy, numbers)(*plain)
    for row, expected in zip(hessian, products):
        actual = sum(
            (block * t).flatten(expected.dim()).sum(-1)
            for block, t in zip(row, tangents)
        )
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('case', CASES)
def test_third_derivatives(case):
    function, inputs = positional(case)
    tangents = [normal(*t.shape, seed=9) for t in inputs]

    def along(value):
        grads = torch.autograd.grad(value, inputs, create_graph=True)
        return sum((g * t).sum() for g, t in zip(grads, tangents))

    third = along(along(along(scalar(function(*inputs)))))

    def at(step):
        moved = [t.detach() + step * v for t, v in zip(inputs, tangents)]
        moved = [t.requires_grad_() for t in moved]
        grads = torch.autograd.grad(scalar(function(*moved)), moved, create_graph=True)
        slope = sum((g * v).sum() for g, v in zip(grads, tangents))
        second = torch.autograd.grad(slope, moved)
        return sum((g * v).sum() for g, v in zip(second, tangents))

    difference = (at(1e-5) - at(-1e-5)) / 2e-5
    torch.testing.assert_close(third.detach(), difference, rtol=1e-6, atol=1e-6)


class NoGradient(torch.autograd.Function):
    """The identity, which has no gradient for its input."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


@pytest.mark.parametrize('case', CASES)
def test_an_output_that_gets_no_gradient_has_none(case):
    function, inputs = positional(case)
    results = function(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    sum(NoGradient.apply(result).sum() for result in results).backward()
    assert not any(x.grad is not None and x.grad.any() for x in inputs)


@pytest.mark.parametrize(
    'case', ['selective_scan_states', 'cross_selective_scan_states']
)
def test_checkpoints_of_a_scan_are_no_functions_to_differentiate(case):
    """Nothing computes their gradient."""
    _, inputs = CASES[case]
    inputs = [x.clone().requires_grad_() for x in inputs.values()]
    states, checkpoints = getattr(torch.ops.mmadaptor, case)(*inputs, True)
    assert states.requires_grad and not checkpoints.requires_grad


def test_a_penalty_on_some_inputs_leaves_the_others_alone():
    """Only delta requires a gradient, as in issue reports."""
    function, inputs = positional('selective_scan')
    inputs = [t.detach() for t in inputs]
    inputs[1].requires_grad_()
    (grad,) = torch.autograd.grad(
        scalar(function(*inputs)), inputs[1], create_graph=True
    )
    (second,) = torch.autograd.grad(grad.square().sum(), inputs[1])
    assert second.abs().min() > 0 and not second.requires_grad


# What forward mode meets in the ops, but for the functions of `mmadaptor.ops`.
GRAPHS = {
    'traced': lambda f, x: torch.jit.trace(f, x),
    'exported': lambda f, x: torch.export.export(Called(f), (x,)).module(),
    'the op itself': lambda f, x: (
        lambda y: torch.ops.mmadaptor.cross_readout(
            y, torch.ones(1, 2, 1, 4, 2, dtype=torch.float64)
        )
    ),
}


class Called(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize('graph', GRAPHS)
@pytest.mark.parametrize('grad', [False, True])
def test_forward_mode_of_a_graph_is_an_error(graph, grad):
    states = normal(1, 2, 1, 4, 2, 2)
    C = torch.ones(1, 2, 1, 4, 2, dtype=torch.float64)
    called = GRAPHS[graph](lambda x: ops.cross_readout(x, C), states)
    # The second is torch's own, of tensors that require a gradient as well.
    message = '`states` has a forward-mode derivative|implement the jvp function'
    with pytest.raises((NotImplementedError, RuntimeError), match=message):
        torch.func.jvp(called, (states,), (states,))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(states.clone().requires_grad_(grad), states)
        with pytest.raises((NotImplementedError, RuntimeError), match=message):
            called(dual)


def test_an_op_without_a_forward_mode_derivative_is_computed():
    states, C = CASES['cross_readout'][1].values()
    expected = torch.ops.mmadaptor.cross_readout(states, C)
    with forward_ad.dual_level():
        assert torch.equal(torch.ops.mmadaptor.cross_readout(states, C), expected)


def test_a_call_that_cannot_be_made_without_data_has_no_problem():
    """Its own error is raised."""
    assert find_problem(lambda x: x.tolist(), (torch.ones(1),), {}) is None


def test_a_compiled_function_in_forward_mode_is_compiled_again_or_refused():
    function, inputs = positional('cross_readout')
    compiled = torch.compile(function, fullgraph=True, backend='aot_eager')
    inputs = [t.detach() for t in inputs]
    torch.testing.assert_close(compiled(*inputs), function(*inputs))
    tangents = [normal(*t.shape, seed=9) for t in inputs]
    _, expected = torch.func.jvp(function, tuple(inputs), tuple(tangents))
    with forward_ad.dual_level():
        duals = list(map(forward_ad.make_dual, inputs, tangents))
        try:
            result = compiled(*duals)
        except torch._dynamo.exc.Unsupported as error:  # torch 2.14 and later
            assert 'forward-mode AD tangent' in str(error)
            return
        tangent = forward_ad.unpack_dual(result).tangent
    torch.testing.assert_close(tangent, expected)


def test_wrong_input_is_named_in_forward_mode_too():
    _, inputs = CASES['selective_scan']
    wrong = dict(inputs, delta=inputs['delta'][..., :1])
    with pytest.raises(ValueError, match=r'`delta` must have shape \[1, 2, 3\]'):
        torch.func.jvp(
            lambda u: ops.selective_scan(**{**wrong, 'u': u}),
            (wrong['u'],),
            (wrong['u'],),
        )


@pytest.mark.parametrize('case', CASES)
def test_derivatives_without_data(case):
    """The meta device has no autocast to switch off."""
    function, inputs = positional(case)
    inputs = [t.detach().to('meta').requires_grad_() for t in inputs]
    grads = torch.autograd.grad(scalar(function(*inputs)), inputs, create_graph=True)
    seconds = torch.autograd.grad(sum(g.square().sum() for g in grads), inputs)
    assert [g.shape for g in seconds] == [t.shape for t in inputs]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t.detach(), t.detach()) for t in inputs]
        energy = forward_ad.unpack_dual(scalar(function(*duals)))
    assert energy.tangent.device.type == 'meta'


def test_autocast_does_not_change_derivatives_of_definitions():
    """Autocast would lower the convolutions and products of the definitions."""
    function, inputs = positional('dilated_depthwise')
    inputs = [t.detach().float() for t in inputs]
    _, expected = torch.func.jvp(function, tuple(inputs), tuple(inputs))
    with torch.autocast('cpu', torch.bfloat16):
        _, tangent = torch.func.jvp(function, tuple(inputs), tuple(inputs))
    assert torch.equal(tangent, expected)


@pytest.mark.parametrize('case', CASES)
def test_autocast_lowers_the_same_arguments_in_forward_mode(case):
    """The definition, which forward mode computes, gives what the op gives."""
    function, inputs = CASES[case]
    inputs = {k: v.float() for k, v in inputs.items()}
    if case.startswith('memory'):  # as a linear layer under autocast predicts it
        name = 'predicted' if 'predicted' in inputs else 'locations'
        inputs[name] = inputs[name].bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        expected = function(**inputs)
        with forward_ad.dual_level():
            actual = function(**inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_half_precision():
    """Second derivatives of the maps in half precision, as in mixed precision."""
    inputs = dict(CASES['selective_scan'][1])
    inputs['C'] = inputs['C'].expand(1, 2, 2, 2)[..., :1].repeat(1, 1, 1, 3)[:, :1]
    inputs = {
        k: v.to(torch.bfloat16 if k in ('u', 'delta', 'B', 'C', 'z') else torch.float32)
        for k, v in inputs.items()
    }

    def penalty(tensors):
        leaves = {k: v.clone().requires_grad_() for k, v in tensors.items()}
        y = ops.selective_scan(**leaves, delta_softplus=True)
        (grad,) = torch.autograd.grad(y.sum(), leaves['u'], create_graph=True)
        return torch.autograd.grad(grad.double().square().sum(), leaves['delta'])[0]

    low = penalty(inputs)
    assert low.dtype == torch.bfloat16
    exact = penalty({k: v.double() for k, v in inputs.items()})
    torch.testing.assert_close(low.double(), exact, rtol=0.05, atol=0.02)


def test_reverse_mode_of_torch_func_is_an_error():
    """torch has no such transform of ops that are registered from Python."""
    function, inputs = positional('cross_readout')
    with pytest.raises(RuntimeError, match='functorch'):
        torch.func.grad(lambda x: function(x, inputs[1].detach()).sum())(
            inputs[0].detach()
        )


@pytest.mark.parametrize('name', ops.__all__)
def test_scripted(name):
    """`torch.jit.script` compiles every public function."""
    function, inputs = CASES[name]
    options = getattr(function, 'keywords', {})
    extra = dict(
        memory_readout=dict(granularities=[1.0, 2.0]),
        dilated_depthwise=dict(dilations=[1, 2]),
    ).get(name, {})
    scripted = torch.jit.script(getattr(ops, name))
    results = scripted(**inputs, **options, **extra)
    expected = function(**inputs)
    if isinstance(results, torch.Tensor):
        results, expected = (results,), (expected,)
    assert len(results) == len(expected)
    assert all(map(torch.equal, results, expected))


def test_scripted_inside_a_function():
    def convolved(y: torch.Tensor, kernels: torch.Tensor):
        return ops.dilated_depthwise(y, kernels, [1, 2]) * 2

    _, inputs = CASES['dilated_depthwise']
    scripted = torch.jit.script(convolved)
    assert torch.equal(scripted(*inputs.values()), convolved(*inputs.values()))
