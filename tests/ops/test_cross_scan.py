"""The 2-D scan against its definition: explicit pixel orders."""
import pytest
import torch

from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
)
from mmadaptor.ops.cross_scan import reference

SIZES = [(2, 4, 5, 6, 1), (1, 7, 3, 16, 2), (2, 1, 1, 3, 1), (1, 1, 9, 2, 4),
         (0, 3, 4, 6, 1), (1, 13, 9, 20, 1)]


def make(batch, height, width, channels, states, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    pixels = (batch, height, width)
    tensors = dict(
        x=normal(*pixels, channels), delta=normal(*pixels, 4, channels),
        A=-normal(4, channels, states).abs(), B=normal(*pixels, 4, states),
        C=normal(*pixels, 4, states), D=normal(4, channels),
        delta_bias=normal(4, channels))
    return {k: v.requires_grad_() for k, v in tensors.items()}


def check(compiled, definition, inputs, **options):
    result = compiled(**inputs, **options)
    expected = definition(**inputs, **options)
    torch.testing.assert_close(result, expected)
    weight = torch.randn(expected.shape, dtype=expected.dtype)
    for name, a, b in zip(
            inputs, torch.autograd.grad(result, list(inputs.values()), weight),
            torch.autograd.grad(expected, list(inputs.values()), weight)):
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f'{n}: {m}')


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_scan_equals_its_definition(size):
    check(cross_selective_scan, reference.cross_selective_scan, make(*size),
          delta_softplus=True)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_states_equal_their_definition(size):
    inputs = make(*size)
    del inputs['C'], inputs['D']
    check(cross_selective_scan_states, reference.cross_selective_scan_states,
          inputs, delta_softplus=True)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_readout_of_the_states_is_the_scan(size):
    inputs = make(*size)
    C, D = inputs.pop('C'), inputs.pop('D')
    states = cross_selective_scan_states(**inputs, delta_softplus=True)
    y = cross_readout(states, C) + D.sum(0) * inputs['x']
    torch.testing.assert_close(
        y, cross_selective_scan(**inputs, C=C, D=D, delta_softplus=True))
    torch.testing.assert_close(cross_readout(states, C),
                               reference.cross_readout(states, C))


def test_a_hand_computed_map():
    """With no decay and unit steps, a direction's state is a running sum."""
    x = torch.tensor([[1., 2.], [3., 4.]]).view(1, 2, 2, 1)
    one = torch.ones(1, 2, 2, 4, 1)
    states = cross_selective_scan_states(x, one, torch.zeros(4, 1, 1), one)
    expected = [[[1, 3], [6, 10]], [[1, 6], [4, 10]],
                [[10, 9], [7, 4]], [[10, 6], [9, 4]]]
    torch.testing.assert_close(
        states.squeeze().permute(2, 0, 1), torch.tensor(expected).float())


def test_turning_the_map_turns_the_result():
    """Transposing the map exchanges rows and columns, and nothing else."""
    inputs = make(1, 5, 8, 4, 2)
    swap = [1, 0, 3, 2]
    turned = {
        'x': inputs['x'].transpose(1, 2),
        **{k: inputs[k].transpose(1, 2)[:, :, :, swap] for k in 'BC'},
        'delta': inputs['delta'].transpose(1, 2)[:, :, :, swap],
        **{k: inputs[k][swap] for k in ('A', 'D', 'delta_bias')}
    }
    torch.testing.assert_close(
        cross_selective_scan(**turned).transpose(1, 2),
        cross_selective_scan(**inputs))


def test_autocast_keeps_states_in_float32():
    inputs = make(1, 4, 4, 8, 1, torch.float32)
    C = inputs.pop('C')
    del inputs['D']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        states = cross_selective_scan_states(**inputs)
        y = cross_readout(states, C.bfloat16())
    assert states.dtype == torch.float32
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize('name, shape, message', [
    ('x', (2, 4, 6), r'`x` must have 4 dimensions .*got shape \[2, 4, 6\]'),
    ('x', (2, 4, 0, 6), r'`x` must not be empty but for its batch'),
    ('delta', (2, 4, 5, 3, 6),
     r'`delta` must have shape \[2, 4, 5, 4, 6\].*got \[2, 4, 5, 3, 6\]'),
    ('A', (4, 7, 1), r'`A` must have shape \[4, 6, 1\].*got \[4, 7, 1\]'),
    ('B', (2, 4, 5, 4, 2), r'`B` must have shape \[2, 4, 5, 4, 1\]'),
    ('C', (2, 5, 4, 4, 1), r'`C` must have shape \[2, 4, 5, 4, 1\]'),
    ('D', (6, ), r'`D` must have shape \[4, 6\].*got \[6\]'),
    ('delta_bias', (6, 4), r'`delta_bias` must have shape \[4, 6\]'),
])
def test_wrong_shape_is_named(name, shape, message):
    inputs = make(2, 4, 5, 6, 1)
    inputs[name] = torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        cross_selective_scan(**inputs)


def test_wrong_dtype_is_named():
    inputs = make(2, 4, 5, 6, 1)
    inputs['B'] = inputs['B'].float()
    with pytest.raises(ValueError, match='`B` must be Double .*got Float'):
        cross_selective_scan(**inputs)
