# SPDX-License-Identifier: Apache-2.0
"""Adaptor-S: a hand-computed map, merged and separate kernels."""

import pytest
import torch

from mmadaptor.models.layers import AdaptorS


def trained(channels=6, dilations=(1, 2, 3)):
    torch.manual_seed(0)
    adaptor = AdaptorS(channels, dilations)
    torch.nn.init.normal_(adaptor.alpha)
    return adaptor


def test_a_hand_computed_map():
    """The kernels are ones, alpha is 10 and 100, and one pixel is 1."""
    adaptor = AdaptorS(1, (1, 2))
    with torch.no_grad():
        for conv in adaptor.convs:
            conv.weight.fill_(1.0)
        adaptor.alpha[:] = torch.tensor([[10.0], [100.0]])
    y = torch.zeros(1, 5, 5, 1)
    y[0, 2, 2] = 1.0
    expected = torch.tensor(
        [
            [100.0, 0.0, 100.0, 0.0, 100.0],
            [0.0, 10.0, 10.0, 10.0, 0.0],
            [100.0, 10.0, 111.0, 10.0, 100.0],
            [0.0, 10.0, 10.0, 10.0, 0.0],
            [100.0, 0.0, 100.0, 0.0, 100.0],
        ]
    )
    torch.testing.assert_close(adaptor(y)[0, ..., 0], expected)


def test_alpha_0_adds_nothing_and_learns():
    adaptor = AdaptorS(4)
    y = torch.randn(2, 5, 7, 4)
    result = adaptor(y)
    assert torch.equal(result, y)
    result.square().sum().backward()
    assert adaptor.alpha.grad.abs().min() > 0


@pytest.mark.parametrize('dilations', [(1, 2, 3), (1,), (2, 4)], ids=str)
def test_deploy_and_back(dilations):
    adaptor = trained(dilations=dilations).eval()
    y = torch.randn(2, 9, 7, 6)
    separate, keys = adaptor(y), list(adaptor.state_dict())
    adaptor.switch_to_deploy()
    torch.testing.assert_close(adaptor(y), separate)
    assert list(adaptor.state_dict()) == keys
    adaptor.switch_to_train()
    assert torch.equal(adaptor(y), separate)


def test_a_merged_kernel_cannot_go_stale():
    adaptor = trained().eval()
    adaptor.switch_to_deploy()
    with pytest.raises(RuntimeError, match='switch_to_train'):
        adaptor.load_state_dict(trained().state_dict())
    with pytest.raises(RuntimeError, match='switch_to_train'):
        adaptor.train()(torch.randn(1, 3, 3, 6))


def poison():
    """Leave NaNs in the memory that the next tensors get."""
    for size in (10**3, 10**4, 10**5, 10**6):
        torch.full((size,), float('nan'))
        torch.full((size,), float('nan'), dtype=torch.bfloat16)


@pytest.mark.parametrize('autocast', [True, False])
def test_gradients_in_bfloat16(autocast):
    """On maps of 40 pixels, the gradient of oneDNN reads uninitialized memory."""
    torch.manual_seed(0)
    y, direction = torch.randn(2, 2, 40, 40, 32)
    exact = trained(32)
    exact(y).backward(direction)
    adaptor = trained(32)
    if not autocast:
        adaptor.bfloat16()
    for _ in range(3):
        poison()
        adaptor.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
            result = adaptor(y.bfloat16())
        assert result.dtype == torch.bfloat16
        result.backward(direction.bfloat16())
        for got, expected in zip(adaptor.parameters(), exact.parameters()):
            error = (got.grad.float() - expected.grad).norm()
            assert error < 0.02 * expected.grad.norm()


@pytest.mark.parametrize('hooked', [False, True])
def test_the_type_of_the_map_stays(hooked):
    """Also if the convolutions are called, whose scale is a float32."""
    adaptor, y = trained(), torch.randn(1, 5, 4, 6)
    if hooked:
        adaptor.convs[0].register_forward_hook(lambda *_: None)
    for dtype in (torch.bfloat16, torch.float32):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert adaptor(y.to(dtype)).dtype == dtype


def test_reset_gives_the_initial_scale():
    adaptor = AdaptorS(4, alpha_init=0.5)
    torch.nn.init.normal_(adaptor.alpha)
    adaptor.reset_parameters()
    assert (adaptor.alpha == 0.5).all()


@pytest.mark.parametrize('dilations', [(), (0, 1), (1,) * 17], ids=str)
def test_wrong_dilations_are_named(dilations):
    with pytest.raises(ValueError, match='`dilations` must be 1 to 16 positive'):
        AdaptorS(4, dilations)
