"""Adaptor-T's gather against `grid_sample` at each place."""
import pytest
import torch

from mmadaptor.ops import memory_select
from mmadaptor.ops.memory_select import reference

# (batch, height, width, directions, channels, states, groups, places)
SIZES = [(2, 4, 5, 4, 6, 1, 2, 3), (1, 7, 3, 2, 8, 2, 4, 1),
         (1, 1, 6, 1, 4, 1, 1, 4), (2, 1, 1, 4, 2, 3, 2, 2),
         (0, 3, 3, 4, 4, 1, 2, 4), (1, 13, 9, 4, 5, 1, 1, 2)]


def make(batch, height, width, directions, channels, states, groups, places,
         dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    tokens = (batch, height, width, directions)
    size = torch.tensor([height, width], dtype=dtype)
    places_ = normal(*tokens, groups, places, 2) * .4 + .5  # some outside
    return dict(
        states=normal(*tokens, channels, states).requires_grad_(),
        locations=(places_ * size).requires_grad_(),
        weights=normal(*tokens, groups, places).requires_grad_())


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_it_equals_its_definition(size):
    inputs = make(*size)
    result = memory_select(**inputs)
    expected = reference.memory_select(**inputs)
    torch.testing.assert_close(result, expected)
    weight = torch.randn_like(expected)
    for name, a, b in zip(
            inputs, torch.autograd.grad(result, list(inputs.values()), weight),
            torch.autograd.grad(expected, list(inputs.values()), weight)):
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f'{n}: {m}')


def test_gradcheck():
    inputs = make(1, 3, 4, 2, 4, 1, 2, 2)
    assert torch.autograd.gradcheck(memory_select, tuple(inputs.values()))


def test_a_hand_computed_sum():
    """Halfway between four pixels, on a pixel, and half outside the map."""
    states = torch.tensor([[1., 2.], [3., 4.]]).view(1, 2, 2, 1, 1, 1)
    locations = torch.zeros(1, 2, 2, 1, 1, 3, 2)
    locations[0, 0, 0, 0, 0] = torch.tensor([[.5, .5], [1., 0.], [-.5, 1.]])
    weights = torch.zeros(1, 2, 2, 1, 1, 3)
    weights[0, 0, 0, 0, 0] = torch.tensor([1., 10., 100.])
    memory = memory_select(states, locations, weights)
    # 2.5 + 10 * 3 + 100 * (2 / 2)
    torch.testing.assert_close(
        memory.flatten(), torch.tensor([132.5, 0., 0., 0.]))


def test_identity_places_return_the_states():
    inputs = make(2, 5, 4, 4, 6, 2, 3, 1)
    row, column = torch.meshgrid(torch.arange(5.), torch.arange(4.),
                                 indexing='ij')
    here = torch.stack([row, column], -1).double()
    locations = here[None, :, :, None, None, None].expand_as(
        inputs['locations'])
    memory = memory_select(inputs['states'], locations,
                           torch.ones_like(inputs['weights']))
    torch.testing.assert_close(memory, inputs['states'], rtol=0, atol=0)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_a_location_that_is_not_finite_gives_nan_there(value):
    inputs = {k: v.detach() for k, v in make(1, 3, 3, 1, 4, 1, 2, 2).items()}
    inputs['locations'][0, 1, 2, 0, 1, 0, 0] = value
    nan = memory_select(**inputs).isnan().nonzero()
    assert nan.tolist() == [[0, 1, 2, 0, 2, 0], [0, 1, 2, 0, 3, 0]]


def test_places_far_outside_count_as_zero():
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2)
    memory = memory_select(inputs['states'], inputs['locations'] * 0 + 1e30,
                           inputs['weights'])
    assert (memory == 0).all()


@pytest.mark.parametrize('name, shape, message', [
    ('states', (1, 3, 3, 4, 1), r'`states` must have 6 dimensions'),
    ('weights', (1, 3, 4, 1, 2, 2),
     r'`weights` must have shape \[1, 3, 3, 1, 2, 2\].*got \[1, 3, 4, 1, 2, 2\]'),
    ('locations', (1, 3, 3, 1, 2, 2, 3),
     r'`locations` must have shape \[1, 3, 3, 1, 2, 2, 2\]'),
])
def test_wrong_shape_is_named(name, shape, message):
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2)
    inputs[name] = torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        memory_select(**inputs)


def test_groups_that_do_not_divide_the_channels_are_named():
    inputs = make(1, 3, 3, 1, 4, 1, 3, 2)
    with pytest.raises(ValueError, match='must divide the 4 channels.*got 3'):
        memory_select(**inputs)


def test_wrong_dtype_is_named():
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2)
    inputs['weights'] = inputs['weights'].float()
    with pytest.raises(ValueError, match='`weights` must be torch.float64'):
        memory_select(**inputs)
