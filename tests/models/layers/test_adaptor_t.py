# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T: hand-computed places, and the initial state."""

import pytest
import torch

from mmadaptor.models.layers import AdaptorT
from mmadaptor.ops.memory_select import reference


def states_and_readout(rows):
    """Return one channel with one state; C reads only the first direction."""
    height, width = len(rows), len(rows[0])
    states = torch.zeros(1, height, width, 4, 1, 1)
    states[..., 0, 0, 0] = torch.tensor(rows)
    C = torch.zeros(1, height, width, 4, 1)
    C[..., 0, 0] = 2.0
    return states, C


def looking(adaptor, weight, bias):
    """Set the one place's row and column from the state: weight h + bias."""
    with torch.no_grad():
        adaptor.offsets.weight[:, 0] = torch.tensor(weight)
        adaptor.offsets.bias[:] = torch.tensor(bias)
    return adaptor


def test_a_hand_computed_map():
    """Each token looks h columns to its right, at 2 pixels a step."""
    states, C = states_and_readout(
        [[1.0, 0.0, 5.0], [0.25, 3.0, 7.0], [-0.5, 4.0, 6.0]]
    )
    adaptor = looking(
        AdaptorT(1, sequences=1, places=1, granularities=[2.0], gamma_init=0.5),
        [0.0, 1.0],
        [0.0, 0.0],
    )
    # (0, 0) at column 2; (1, 0) between 0 and 1; (2, 0) at -1, outside.
    expected = torch.tensor(
        [[5.0, 0.0, 0.0], [(0.25 + 3.0) / 2, 0.0, 0.0], [0.0, 0.0, 0.0]]
    )
    # gamma C h = .5 * 2 * h
    torch.testing.assert_close(adaptor(states, C)[0, ..., 0], expected)


def test_weights_of_two_places():
    """softmax of (0, log 3) is (1/4, 3/4), for the left and right neighbors."""
    states, C = states_and_readout([[1.0, 2.0, 4.0]])
    adaptor = AdaptorT(1, sequences=1, places=2, gamma_init=1.0)
    with torch.no_grad():
        adaptor.offsets.bias[:] = torch.tensor([0.0, -1.0, 0.0, 1.0])
        adaptor.coefficients.bias[:] = torch.tensor([1.0, 3.0]).log()
    expected = 2 * torch.tensor([0.75 * 2.0, 0.25 * 1.0 + 0.75 * 4.0, 0.25 * 2.0])
    torch.testing.assert_close(adaptor(states, C)[0, 0, :, 0], expected)


def test_places_start_on_a_ring_of_each_granularity():
    adaptor = AdaptorT(4, sequences=2, places=4)
    tokens = torch.randn(1, 3, 5, 4, 4)
    locations, weights = adaptor.locate(adaptor.predict(tokens))
    assert locations.shape == (1, 3, 5, 4, 2, 4, 2)
    ring = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    here = torch.tensor([2.0, 3.0])
    torch.testing.assert_close(locations[0, 2, 3, 1, 0], here + ring)
    torch.testing.assert_close(locations[0, 2, 3, 1, 1], here + 2 * ring)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.25))


def test_static_places_do_not_depend_on_the_state():
    adaptor = AdaptorT(4, static=True)
    tokens = torch.randn(2, 3, 3, 4, 4)
    locations, _ = adaptor.locate(adaptor.predict(tokens))
    assert adaptor.offsets is None
    torch.testing.assert_close(locations[0], locations[1])
    other = AdaptorT(4)
    learned, _ = other.locate(other.predict(tokens))
    torch.testing.assert_close(locations, learned)


def test_places_of_a_model_from_the_meta_device():
    """`to_empty` fills nothing but what a checkpoint holds."""
    states, C = torch.randn(1, 3, 3, 4, 4, 1), torch.randn(1, 3, 3, 4, 1)
    adaptor = AdaptorT(4, static=True, gamma_init=1.0)
    with torch.device('meta'):
        empty = AdaptorT(4, static=True)
    empty = empty.to_empty(device='cpu')
    empty.load_state_dict(adaptor.state_dict())
    assert not dict(empty.named_buffers())
    assert torch.equal(empty(states, C), adaptor(states, C))


def test_several_states_are_predicted_from_the_readout():
    torch.manual_seed(0)
    adaptor = AdaptorT(4, gamma_init=1.0)
    torch.nn.init.normal_(adaptor.offsets.weight)
    states, C = torch.randn(1, 3, 4, 4, 4, 3), torch.randn(1, 3, 4, 4, 3)
    tokens = (states * C.unsqueeze(4)).sum(-1)
    locations, weights = adaptor.locate(adaptor.predict(tokens))
    memory = reference.memory_select(states, locations, weights)
    torch.testing.assert_close(
        adaptor(states, C), (memory * C.unsqueeze(4)).sum(dim=(3, 5))
    )


def test_gamma_0_adds_nothing_and_learns():
    adaptor = AdaptorT(4)
    states, C = torch.randn(1, 5, 5, 4, 4, 1), torch.randn(1, 5, 5, 4, 1)
    added = adaptor(states, C)
    assert (added == 0).all()
    added.sum().backward()
    assert adaptor.gamma.grad.abs().min() > 0


def test_autocast_keeps_places_in_float32():
    adaptor = AdaptorT(4, gamma_init=1.0)
    states, C = torch.randn(1, 3, 3, 4, 4, 1), torch.randn(1, 3, 3, 4, 1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        added = adaptor(states, C)
    assert added.dtype == torch.float32
    torch.testing.assert_close(added, adaptor(states, C))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(sequences=3), '`sequences` must divide the 4 channels.*got 3'),
        (dict(sequences=0), '`sequences` must be an integer of 1 or more, got 0'),
        (dict(places=0), '`places` must be an integer of 1 or more, got 0'),
        (dict(places=2.5), '`places` must be an integer.*got 2.5'),
        (dict(granularities=[float('inf'), 1.0]), '`granularities` must be.*inf'),
        (dict(granularities=[1.0]), '`granularities` must be 2 finite numbers.*got'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptorT(4, **arguments)
