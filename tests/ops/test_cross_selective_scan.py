# SPDX-License-Identifier: Apache-2.0
"""Test the 2-D scan against its definition with explicit pixel orders."""

import pytest
import torch

from benchmarks import baselines
from benchmarks.measuring import peak_bytes
from benchmarks.ops import map_row, measure
from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
)
from mmadaptor.ops.cross_selective_scan import reference

SIZES = [
    (2, 4, 5, 6, 1),
    (1, 7, 3, 16, 2),
    (2, 1, 1, 3, 1),
    (1, 1, 9, 2, 4),
    (0, 3, 4, 6, 1),
    (1, 13, 9, 20, 1),
    (1, 9, 11, 70, 1),
    (2, 5, 17, 19, 3),
    (1, 1, 130, 3, 2),
    (1, 131, 1, 3, 1),
    (2, 15, 14, 5, 1),
]
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.bfloat16: 3e-2,
    torch.float16: 4e-3,
}


def make(batch, height, width, channels, states, dtype=torch.float64):
    """Create leaf tensors by name: maps of `dtype`, parameters float32 or wider."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=wide)

    pixels = (batch, height, width)
    tensors = dict(
        x=normal(*pixels, channels),
        delta=normal(*pixels, 4, channels),
        A=-normal(4, channels, states).abs(),
        B=normal(*pixels, 4, states),
        C=normal(*pixels, 4, states),
        D=normal(4, channels),
        delta_bias=normal(4, channels),
    )
    return {
        k: (v.to(dtype) if k in ('x', 'delta', 'B', 'C') else v).requires_grad_()
        for k, v in tensors.items()
    }


def assert_near(name, actual, expected, dtype):
    scale = expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.double(),
        expected,
        rtol=0,
        atol=TOLERANCE[dtype] * max(scale, 1.0),
        msg=lambda text: f'{name}: {text}',
    )


def check(compiled, definition, inputs, **options):
    """Compare outputs and all gradients with the definition in float64."""
    dtype = next(iter(inputs.values())).dtype
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    results, expected = compiled(**inputs, **options), definition(**exact, **options)
    if isinstance(results, torch.Tensor):
        results, expected = (results,), (expected,)
    generator = torch.Generator().manual_seed(1)
    weights = [
        torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r.dtype)
        for r in results
    ]
    for i, (a, b) in enumerate(zip(results, expected)):
        assert_near(f'output {i}', a, b, dtype)
    for name, a, b in zip(
        inputs,
        torch.autograd.grad(results, list(inputs.values()), weights),
        torch.autograd.grad(
            expected, list(exact.values()), [w.double() for w in weights]
        ),
    ):
        assert a.dtype == inputs[name].dtype
        assert_near(f'gradient of {name}', a, b, dtype)


def both(x, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
    """Compute output and states by the definition."""
    return (
        reference.cross_selective_scan(
            x, delta, A, B, C, D, delta_bias, delta_softplus
        ),
        reference.cross_selective_scan_states(
            x, delta, A, B, delta_bias, delta_softplus
        ),
    )


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_scan_equals_its_definition(size, dtype):
    check(
        cross_selective_scan,
        reference.cross_selective_scan,
        make(*size, dtype),
        delta_softplus=True,
    )


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_states_equal_their_definition(size, dtype):
    inputs = make(*size, dtype)
    del inputs['C'], inputs['D']
    check(
        cross_selective_scan_states,
        reference.cross_selective_scan_states,
        inputs,
        delta_softplus=True,
    )


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_scan_with_states_equals_its_definition(size, dtype):
    def call(**inputs):
        return cross_selective_scan(**inputs, return_states=True)

    check(call, both, make(*size, dtype), delta_softplus=True)


@pytest.mark.parametrize('states', [1, 2, 3])
def test_returning_states_changes_no_bit(states):
    inputs = make(1, 9, 8, 40, states, torch.float32)
    plain = cross_selective_scan(**inputs, delta_softplus=True)
    y, h = cross_selective_scan(**inputs, delta_softplus=True, return_states=True)
    assert torch.equal(plain, y)
    alone = cross_selective_scan_states(
        *(inputs[k] for k in ('x', 'delta', 'A', 'B', 'delta_bias')), True
    )
    assert torch.equal(h, alone)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_readout_equals_its_definition(size):
    batch, height, width, channels, states = size
    generator = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(shape, generator=generator).requires_grad_()
        for name, shape in dict(
            states=(batch, height, width, 4, channels, states),
            C=(batch, height, width, 4, states),
        ).items()
    }
    check(cross_readout, reference.cross_readout, inputs)


def test_scan_equals_the_composition():
    inputs = make(2, 6, 7, 20, 2)
    torch.testing.assert_close(
        cross_selective_scan(**inputs, delta_softplus=True),
        baselines.cross_selective_scan(**inputs),
    )


@pytest.mark.parametrize('return_states', [False, True])
def test_gradcheck(return_states):
    inputs = make(1, 2, 3, 3, 2)

    def function(*tensors):
        return cross_selective_scan(
            **dict(zip(inputs, tensors)),
            delta_softplus=True,
            return_states=return_states,
        )

    assert torch.autograd.gradcheck(function, tuple(inputs.values()))


@pytest.mark.parametrize('size', [(2, 3, 4, 5, 1), (0, 3, 4, 5, 2)], ids=str)
def test_opcheck(size):
    x, delta, A, B, C, D, bias = make(*size, torch.float32).values()
    ops = torch.ops.mmadaptor
    for return_states in (False, True):
        torch.library.opcheck(
            ops.cross_selective_scan.default,
            (x, delta, A, B, C, D, bias, True, return_states),
        )
    torch.library.opcheck(
        ops.cross_selective_scan_states.default, (x, delta, A, B, None, True)
    )
    states = ops.cross_selective_scan_states(x, delta, A, B, None, True)[0]
    torch.library.opcheck(
        ops.cross_readout.default, (states.detach().requires_grad_(), C)
    )


def run_all(inputs):
    y, states = cross_selective_scan(**inputs, delta_softplus=True, return_states=True)
    out = cross_readout(states, inputs['C'])
    loss = y.float().square().sum() + out.float().square().sum()
    return [y, states, out, *torch.autograd.grad(loss, list(inputs.values()))]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_threads_do_not_change_a_bit(dtype):
    """This also holds for fewer blocks than threads (see PreparedScan)."""
    inputs = make(1, 11, 9, 40, 2, dtype)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 1, 2, 3):
            torch.set_num_threads(count)
            results.append(run_all(inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_strides_do_not_matter():
    inputs = make(2, 5, 7, 20, 3, torch.float32)
    strided = {
        name: t.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_()
        for name, t in inputs.items()
    }
    channels_first = dict(inputs)
    channels_first['x'] = (
        inputs['x']
        .detach()
        .permute(0, 3, 1, 2)
        .contiguous()
        .permute(0, 2, 3, 1)
        .requires_grad_()
    )
    turned = dict(inputs)
    turned['delta'] = (
        inputs['delta']
        .detach()
        .transpose(1, 2)
        .contiguous()
        .transpose(1, 2)
        .requires_grad_()
    )
    expected = run_all(inputs)
    for other in (strided, channels_first, turned):
        for a, b in zip(run_all(other), expected):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_expanded_and_flipped_inputs():
    inputs = make(2, 3, 4, 5, 1)
    inputs['x'] = torch.linspace(-1, 1, 5).double().expand(2, 3, 4, 5).flip(1)
    inputs['delta'] = torch.linspace(-1, 1, 4).double()[:, None].expand(2, 3, 4, 4, 5)
    torch.testing.assert_close(
        cross_selective_scan(**inputs, delta_softplus=True),
        reference.cross_selective_scan(**inputs, delta_softplus=True),
    )


@pytest.mark.parametrize('height, width', [(3, 5), (8, 2)])
def test_compiled_for_any_size(height, width):
    """The fake kernels allow one graph for all sizes."""

    @torch.compile(fullgraph=True, dynamic=True, backend='aot_eager')
    def function(inputs):
        y, states = cross_selective_scan(
            **inputs, delta_softplus=True, return_states=True
        )
        return y + cross_readout(states, inputs['C'])

    inputs = make(2, height, width, 6, 1, torch.float32)
    y, states = cross_selective_scan(**inputs, delta_softplus=True, return_states=True)
    torch.testing.assert_close(function(inputs), y + cross_readout(states, inputs['C']))


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_readout_of_the_states_is_the_scan(size):
    inputs = make(*size)
    C, D = inputs.pop('C'), inputs.pop('D')
    states = cross_selective_scan_states(**inputs, delta_softplus=True)
    y = cross_readout(states, C) + D.sum(0) * inputs['x']
    torch.testing.assert_close(
        y, cross_selective_scan(**inputs, C=C, D=D, delta_softplus=True)
    )
    torch.testing.assert_close(
        cross_readout(states, C), reference.cross_readout(states, C)
    )


def test_a_hand_computed_map():
    """Without decay and with unit steps, the state of a direction is a running sum."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 2, 1)
    one = torch.ones(1, 2, 2, 4, 1)
    states = cross_selective_scan_states(x, one, torch.zeros(4, 1, 1), one)
    expected = [
        [[1, 3], [6, 10]],
        [[1, 6], [4, 10]],
        [[10, 9], [7, 4]],
        [[10, 6], [9, 4]],
    ]
    torch.testing.assert_close(
        states.squeeze().permute(2, 0, 1), torch.tensor(expected).float()
    )


def test_turning_the_map_turns_the_result():
    """Transposing the map only exchanges rows and columns."""
    inputs = make(1, 5, 8, 4, 2)
    swap = [1, 0, 3, 2]
    turned = {
        'x': inputs['x'].transpose(1, 2),
        **{k: inputs[k].transpose(1, 2)[:, :, :, swap] for k in 'BC'},
        'delta': inputs['delta'].transpose(1, 2)[:, :, :, swap],
        **{k: inputs[k][swap] for k in ('A', 'D', 'delta_bias')},
    }
    torch.testing.assert_close(
        cross_selective_scan(**turned).transpose(1, 2), cross_selective_scan(**inputs)
    )


@pytest.mark.parametrize(
    'name, shape, message',
    [
        ('x', (2, 4, 6), r'`x` must have 4 dimensions .*got shape \[2, 4, 6\]'),
        ('x', (2, 4, 0, 6), r'`x` has no columns, got shape \[2, 4, 0, 6\]'),
        (
            'delta',
            (2, 4, 5, 3, 6),
            r'`delta` must have shape \[2, 4, 5, 4, 6\].*got \[2, 4, 5, 3, 6\]',
        ),
        ('A', (4, 7, 1), r'`A` must have shape \[4, 6, 1\].*got \[4, 7, 1\]'),
        ('B', (2, 4, 5, 4, 2), r'`B` must have shape \[2, 4, 5, 4, 1\]'),
        ('C', (2, 5, 4, 4, 1), r'`C` must have shape \[2, 4, 5, 4, 1\]'),
        ('D', (6,), r'`D` must have shape \[4, 6\].*got \[6\]'),
        ('delta_bias', (6, 4), r'`delta_bias` must have shape \[4, 6\]'),
    ],
)
def test_wrong_shape_is_named(name, shape, message):
    inputs = make(2, 4, 5, 6, 1)
    inputs[name] = torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        cross_selective_scan(**inputs)


def test_wrong_dtype_is_named():
    inputs = make(2, 4, 5, 6, 1)
    inputs['B'] = inputs['B'].float()
    with pytest.raises(ValueError, match='`B` must be float64 .*got float32'):
        cross_selective_scan(**inputs)


@pytest.mark.parametrize(
    'states, C, message',
    [
        (
            (2, 3, 4, 4, 5),
            (2, 3, 4, 4, 1),
            r'`states` must have 6 dimensions .*got shape \[2, 3, 4, 4, 5\]',
        ),
        ((2, 3, 0, 4, 5, 1), (2, 3, 0, 4, 1), '`states` has no columns'),
        (
            (2, 3, 4, 4, 5, 2),
            (2, 3, 4, 4, 1),
            r'`C` must have shape \[2, 3, 4, 4, 2\].*got \[2, 3, 4, 4, 1\]',
        ),
    ],
)
def test_wrong_readout_is_named(states, C, message):
    with pytest.raises(ValueError, match=message):
        cross_readout(torch.ones(states), torch.ones(C))


def test_low_states_are_refused():
    with pytest.raises(ValueError, match='`states` must be float32 or float64'):
        cross_readout(
            torch.ones(1, 2, 2, 4, 3, 1).half(), torch.ones(1, 2, 2, 4, 1).half()
        )


def test_one_output_alone_has_its_gradient():
    """Test a loss of `y` or of the states alone, without a gradient of the other."""
    inputs = make(1, 3, 4, 5, 2)
    y, states = cross_selective_scan(**inputs, return_states=True)
    exact_y, exact_states = both(**inputs)
    for result, exact in ((y, exact_y), (states, exact_states)):
        for name in ('x', 'delta', 'A', 'B'):
            torch.testing.assert_close(
                *(
                    torch.autograd.grad(
                        t.square().sum(), inputs[name], retain_graph=True
                    )[0]
                    for t in (result, exact)
                )
            )


def test_states_allocate_memory_for_themselves_alone():
    """Nothing for an output that is not asked for, only states and checkpoints."""
    inputs = {k: v.detach() for k, v in make(2, 5, 4, 3, 2, torch.float32).items()}
    del inputs['C'], inputs['D']
    states = cross_selective_scan_states(**inputs)
    checkpoints = inputs['A'].numel() * len(states)
    expected = states.element_size() * (states.numel() + checkpoints)
    assert peak_bytes(lambda: cross_selective_scan_states(**inputs)) == expected


def test_peak_memory_is_at_most_half_the_compositions():
    fused = map_row('', cross_selective_scan, 1, dict(delta_softplus=True))
    composed = map_row('', baselines.cross_selective_scan, 1, {})
    fused, composed = (
        measure(row, torch.float32, 1)['step_memory_in_inputs']
        for row in (fused, composed)
    )
    assert 1 < fused < composed / 2
