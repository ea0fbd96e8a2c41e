# SPDX-License-Identifier: Apache-2.0
"""The block of VMamba: residuals and recomputation."""

import pytest
import torch

from mmadaptor.models.layers import Downsample, VimBlock, VMambaBlock


def block(**arguments):
    torch.manual_seed(0)
    return VMambaBlock(
        **{
            **dict(
                channels=16,
                mlp_ratio=2.0,
                drop_path_rate=0.0,
                with_cp=False,
                norm_cfg=dict(type='LN'),
                mixer={},
            ),
            **arguments,
        }
    )


def test_the_perceptron_starts_small():
    for layer in (block(channels=64).mlp[0], block(channels=64).mlp[2]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (layer.bias == 0).all()


def test_it_is_two_residuals():
    module, x = block(), torch.randn(1, 4, 5, 16)
    middle = x + module.mixer(module.norm1(x))
    torch.testing.assert_close(module(x), middle + module.mlp(module.norm2(middle)))


def test_recomputing_changes_nothing():
    plain, recomputed = block(), block(with_cp=True)
    results = []
    for module in (plain, recomputed):
        x = torch.linspace(-1, 1, 240).view(1, 3, 5, 16).requires_grad_()
        y = module(x)
        y.square().sum().backward()
        results.append((y, x.grad, module.mixer.A_log.grad))
    for a, b in zip(*results):
        assert torch.equal(a, b)


@pytest.mark.parametrize('kind', ['vmamba', 'vim'])
def test_an_input_without_gradient_is_recomputed_too(kind):
    """Such as that of the first block after a frozen stem."""

    def build(with_cp):
        torch.manual_seed(0)
        if kind == 'vmamba':
            return block(with_cp=with_cp)
        return VimBlock(16, drop_path_rate=0.0, with_cp=with_cp, mixer={})

    arguments = () if kind == 'vmamba' else (3, 5)
    x = torch.linspace(-1, 1, 256).view(1, 16, 16)
    x = x[:, None, :15] if kind == 'vmamba' else x
    counts, gradients = [], []
    for with_cp, given in ((False, x), (True, x), (True, x.clone().requires_grad_())):
        module, kept = build(with_cp), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t) or t, lambda t: t
        ):
            y = module(given, *arguments)
        counts.append(len(kept))
        y.square().sum().backward()
        gradients.append(module.mixer.A_log.grad)
    plain, recomputed, expected = counts
    assert recomputed == expected < plain
    assert all(torch.equal(gradients[0], g) for g in gradients)


def test_a_dropped_path_is_the_identity():
    module, x = block(drop_path_rate=0.999), torch.randn(2, 3, 3, 16)
    assert torch.equal(module.train()(x), x)
    assert not torch.equal(module.eval()(x), x)


@pytest.mark.parametrize('size, half', [((7, 4), (4, 2)), ((1, 1), (1, 1))])
def test_downsample_halves_rounding_up(size, half):
    layer, x = Downsample(3, 8), torch.randn(2, *size, 3)
    assert layer(x).shape == (2, *half, 8)
    maps = layer[0](x.permute(0, 3, 1, 2))
    torch.testing.assert_close(layer(x), layer[1](maps.permute(0, 2, 3, 1)))
