# SPDX-License-Identifier: Apache-2.0
"""Test Adaptor-T in one pass against the gather and the readout."""

import pytest
import torch
from helpers.op_errors import assert_refused
from test_memory_select import TOLERANCE, assert_equal_bits

from mmadaptor.ops import cross_readout, memory_readout, memory_select
from mmadaptor.ops.memory_readout import reference

# (batch, height, width, directions, channels, groups, places)
SIZES = [
    (2, 4, 5, 4, 6, 2, 3),
    (1, 7, 3, 2, 8, 4, 1),
    (1, 1, 6, 1, 4, 1, 4),
    (0, 3, 3, 4, 4, 2, 4),
    (1, 13, 9, 4, 5, 1, 2),
    (1, 3, 2, 1, 64, 2, 40),
    (1, 2, 3, 2, 3, 1, 60),
    (1, 17, 16, 2, 24, 2, 3),
    (1, 2, 3, 1, 396, 1, 2),
    (1, 3, 3, 1, 267, 1, 3),
]  # the last ones span several blocks


def make(
    batch, height, width, directions, channels, groups, places, dtype=torch.float64
):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    tokens = (batch, height, width, directions)
    return dict(
        values=normal(*tokens, channels).requires_grad_(),
        predicted=normal(*tokens, 3 * groups * places).requires_grad_(),
        granularities=[1.3 * 2**s for s in range(groups)],
        coefficients=normal(*tokens).requires_grad_(),
    )


def tensors(inputs):
    return {k: v for k, v in inputs.items() if torch.is_tensor(v)}


def changed(inputs, change):
    return {k: change(v) if torch.is_tensor(v) else v for k, v in inputs.items()}


def gradients(function, inputs):
    """Return the result and the gradients of all tensors, by name."""
    result = function(**inputs)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(
        result
    )
    grads = torch.autograd.grad(result, list(tensors(inputs).values()), weight)
    return dict(zip(['y', *tensors(inputs)], [result, *grads]))


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_it_equals_its_definition(size, dtype):
    inputs = changed(make(*size), lambda t: t.detach().to(dtype).requires_grad_())
    exact = changed(inputs, lambda t: t.detach().double().requires_grad_())
    actual = gradients(memory_readout, inputs)
    for name, value in gradients(reference.memory_readout, exact).items():
        assert actual[name].dtype == dtype and actual[name].is_contiguous()
        torch.testing.assert_close(
            actual[name].double(),
            value,
            rtol=4 * TOLERANCE[dtype],
            atol=4 * TOLERANCE[dtype],
            msg=lambda m, n=name: f'{n}: {m}',
        )


def test_it_is_the_gather_and_the_readout():
    """Adaptor-T combines these two ops if there is more than one state."""
    inputs = changed(make(2, 4, 5, 4, 6, 2, 3), torch.Tensor.detach)
    offsets = inputs['predicted'][..., :12].unflatten(-1, (2, 3, 2))
    row, column = torch.meshgrid(torch.arange(4), torch.arange(5), indexing='ij')
    here = torch.stack([row, column], -1)[:, :, None, None, None]
    granularity = torch.tensor(inputs['granularities'], dtype=torch.float64)
    memory = memory_select(
        inputs['values'].unsqueeze(-1),
        here + granularity[:, None, None] * offsets,
        inputs['predicted'][..., 12:].unflatten(-1, (2, 3)).softmax(-1),
    )
    torch.testing.assert_close(
        memory_readout(**inputs),
        cross_readout(memory, inputs['coefficients'].unsqueeze(-1)),
    )


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_places_that_meet_equal_the_definition(dtype):
    """All places of a map are around one pixel."""
    inputs = changed(make(1, 7, 9, 2, 24, 2, 3), torch.Tensor.detach)
    row, column = torch.meshgrid(torch.arange(7), torch.arange(9), indexing='ij')
    away = torch.tensor([4.5, 3.5]) - torch.stack([row, column], -1)
    granularity = torch.tensor(inputs['granularities'], dtype=torch.float64)
    offsets = inputs['predicted'][..., :12].view(1, 7, 9, 2, 2, 3, 2)
    offsets *= 0.3
    offsets += away[:, :, None, None, None] / granularity[:, None, None]
    exact = changed(inputs, lambda t: t.to(dtype).double().requires_grad_())
    actual = gradients(
        memory_readout, changed(exact, lambda t: t.detach().to(dtype).requires_grad_())
    )
    for name, value in gradients(reference.memory_readout, exact).items():
        torch.testing.assert_close(
            actual[name].double(),
            value,
            rtol=0,
            atol=TOLERANCE[dtype] * value.abs().max().item(),
            msg=lambda m, n=name: f'{n}: {m}',
        )


def test_a_long_row_equals_the_definition_in_float64():
    inputs = make(1, 1, 33000, 1, 1, 1, 1)
    actual = gradients(memory_readout, inputs)
    for name, value in gradients(reference.memory_readout, inputs).items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-10)


def test_a_hand_computed_readout():
    """Two directions: one reads the left pixel, the other two places to the right."""
    values = torch.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]]).T.view(1, 1, 3, 2, 1)
    predicted = torch.zeros(1, 1, 3, 2, 6)
    # Offsets (row, column) of both places, in units of 2 pixels; then their logits.
    predicted[0, 0, 1, 0] = torch.tensor([0.0, -0.5, 9.0, 9.0, 0.0, -1e4])
    predicted[0, 0, 1, 1] = torch.tensor(
        [0.0, 0.5, 0.0, 0.25, 0.0, torch.tensor(3.0).log()]
    )
    coefficients = torch.tensor([10.0, 100.0]).expand(1, 1, 3, 2)
    y = memory_readout(values, predicted, [2.0], coefficients)
    # 10 * 1 + 100 * (1/4 * 9 + 3/4 * (5 + 9) / 2)
    assert y[0, 0, 1, 0] == pytest.approx(10 + 100 * (9 / 4 + 21 / 4))


@pytest.mark.parametrize(
    'size', [(1, 3, 4, 2, 4, 2, 2), (2, 2, 2, 1, 6, 3, 1)], ids=str
)
def test_gradcheck(size):
    inputs = make(*size)
    assert torch.autograd.gradcheck(
        lambda v, p, c: memory_readout(v, p, inputs['granularities'], c),
        tuple(tensors(inputs).values()),
    )


@pytest.mark.parametrize('size', [SIZES[0], SIZES[3], SIZES[-1]], ids=str)
def test_opcheck(size):
    torch.library.opcheck(
        torch.ops.mmadaptor.memory_readout.default, tuple(make(*size).values())
    )
    inputs = changed(make(*size), torch.Tensor.detach)
    torch.library.opcheck(
        torch.ops.mmadaptor.memory_readout_backward.default,
        (torch.ones_like(inputs['values'][:, :, :, 0]), *inputs.values()),
    )


def test_compile_with_sizes_that_change():
    compiled = torch.compile(
        memory_readout, fullgraph=True, dynamic=True, backend='aot_eager'
    )
    for size in ((2, 4, 5, 4, 6, 2, 3), (3, 6, 7, 4, 6, 2, 3)):
        inputs = make(*size)
        assert_equal_bits(
            gradients(compiled, inputs), gradients(memory_readout, inputs)
        )


def test_repeats_are_equal_bit_for_bit():
    inputs = make(2, 9, 7, 4, 150, 1, 4, dtype=torch.float32)
    assert_equal_bits(
        gradients(memory_readout, inputs), gradients(memory_readout, inputs)
    )


def test_threads_do_not_change_a_bit():
    inputs = make(2, 9, 7, 3, 300, 2, 4, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(gradients(memory_readout, inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert_equal_bits(other, results[0])


def test_strides_do_not_matter():
    inputs = make(2, 4, 5, 4, 12, 2, 3, dtype=torch.float32)

    def strided(t):
        wide = t.detach().transpose(1, 2).repeat_interleave(2, dim=-1)
        return wide[..., ::2].transpose(1, 2).requires_grad_()

    assert_equal_bits(
        gradients(memory_readout, changed(inputs, strided)),
        gradients(memory_readout, inputs),
    )
    # An incoming gradient that is one expanded number.
    y = memory_readout(**inputs)
    ones = torch.autograd.grad(y, list(tensors(inputs).values()), torch.ones_like(y))
    y = memory_readout(**inputs)
    for a, b in zip(torch.autograd.grad(y.sum(), list(tensors(inputs).values())), ones):
        assert torch.equal(a, b)


def test_autocast_casts_to_the_values_dtype():
    inputs = make(1, 4, 5, 2, 8, 2, 3, dtype=torch.float32)
    low = {
        **inputs,
        **{
            k: inputs[k].detach().bfloat16().requires_grad_()
            for k in ('predicted', 'coefficients')
        },
    }
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = memory_readout(**low)
    assert y.dtype == torch.float32
    wide = changed(low, lambda t: t.detach().float())
    assert torch.equal(y, memory_readout(**wide))
    y.sum().backward()
    assert low['predicted'].grad.dtype == torch.bfloat16


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_what_is_not_finite_gives_nan_to_its_group(value):
    size = (1, 3, 3, 1, 4, 2, 2)
    clean = gradients(memory_readout, make(*size))
    # The row and the logit of the second group's first place.
    for at in (4, 10):
        inputs = changed(make(*size), torch.Tensor.detach)
        inputs['predicted'][0, 1, 2, 0, at] = value
        results = gradients(
            memory_readout, changed(inputs, torch.Tensor.requires_grad_)
        )
        if at == 10 and value < 0:
            assert results['y'].isfinite().all()  # a weight of 0
            continue
        assert results['y'].isnan().nonzero().tolist() == [[0, 1, 2, 2], [0, 1, 2, 3]]
        kept = ~results['y'].isnan()
        torch.testing.assert_close(results['y'][kept], clean['y'][kept])
        nan = results['predicted'].isnan().nonzero()[:, 1:4].unique(dim=0)
        assert nan.tolist() == [[1, 2, 0]]
        assert results['coefficients'].isnan().nonzero().tolist() == [[0, 1, 2, 0]]


@pytest.mark.parametrize('value', [1e30, -1e30, 2.0**31, -(2.0**31) - 1, 2.0**63])
def test_places_outside_count_as_zero(value):
    for dtype in (torch.float32, torch.float64):
        inputs = make(1, 3, 3, 1, 4, 2, 2, dtype=dtype)
        with torch.no_grad():
            inputs['predicted'][..., :8] = value
        for name, result in gradients(memory_readout, inputs).items():
            assert (result == 0).all(), name


# For size `(1, 3, 3, 1, 4, 2, 2)`: argument to change, wrong value, expected message.
WRONG = {
    'rank of values': (
        'values',
        torch.ones(1, 3, 3, 4),
        r'`values` must have 5 dimensions \(batch, height, width, '
        r'directions, channels\), got shape \[1, 3, 3, 4\]',
    ),
    'no rows': ('values', torch.ones(1, 0, 3, 1, 4), '`values` has no rows'),
    'no channels': ('values', torch.ones(1, 3, 3, 1, 0), '`values` has no channels'),
    'half values': (
        'values',
        torch.ones(1, 3, 3, 1, 4).half(),
        '`values` must be float32 or float64, got float16',
    ),
    'no groups': (
        'granularities',
        [],
        '`granularities` must be one number at least, got none',
    ),
    'groups': (
        'granularities',
        [1.0, 2.0, 3.0],
        'the 3 `granularities`, one a group, must divide the 4 channels',
    ),
    'no places': (
        'predicted',
        torch.ones(1, 3, 3, 1, 0),
        'three numbers for each place of the 2 groups, got 0',
    ),
    'numbers': (
        'predicted',
        torch.ones(1, 3, 3, 1, 8),
        'three numbers for each place of the 2 groups, got 8',
    ),
    'width of predicted': (
        'predicted',
        torch.ones(1, 3, 4, 1, 12),
        r'`predicted` must have shape \[1, 3, 3, 1, 12\].*got \[1, 3, 4, 1, 12\]',
    ),
    'dtype of predicted': (
        'predicted',
        torch.ones(1, 3, 3, 1, 12).double(),
        r'`predicted` must be float32 \(the dtype of `values`\), got float64',
    ),
    'directions of coefficients': (
        'coefficients',
        torch.ones(1, 3, 3, 2),
        r'`coefficients` must have shape \[1, 3, 3, 1\].*got \[1, 3, 3, 2\]',
    ),
    'device of coefficients': (
        'coefficients',
        torch.ones(1, 3, 3, 1, device='meta'),
        '`coefficients` must be on cpu like the first argument, got meta',
    ),
}


@pytest.mark.parametrize('name, value, message', WRONG.values(), ids=WRONG)
def test_wrong_input_is_named(name, value, message):
    inputs = make(1, 3, 3, 1, 4, 2, 2, dtype=torch.float32)
    with pytest.raises(ValueError, match='memory_readout: .*' + message):
        memory_readout(**{**inputs, name: value})


@pytest.mark.parametrize('key', [k for k in WRONG if 'device' not in k])
def test_the_fake_kernel_says_the_same(key):
    name, value, message = WRONG[key]
    inputs = changed(
        make(1, 3, 3, 1, 4, 2, 2, dtype=torch.float32), torch.Tensor.detach
    )
    with pytest.raises(ValueError, match='memory_readout: .*' + message):
        memory_readout(**changed({**inputs, name: value}, lambda t: t.to('meta')))


def test_a_wrong_gradient_is_named():
    inputs = changed(make(1, 3, 3, 1, 4, 2, 2), torch.Tensor.detach)
    backward = torch.ops.mmadaptor.memory_readout_backward
    assert_refused(
        backward,
        torch.ones(1, dtype=torch.float64),
        *inputs.values(),
        message=r'`grad_y` must have shape \[1, 3, 3, 4\] '
        r'\(batch, height, width, channels\), got \[1\]',
    )
