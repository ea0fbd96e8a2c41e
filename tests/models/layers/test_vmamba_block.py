# SPDX-License-Identifier: Apache-2.0
"""The block of VMamba: residuals and recomputation."""

import pytest
import torch

from mmadaptor.models.layers import Downsample, VMambaBlock


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


def test_a_dropped_path_is_the_identity():
    module, x = block(drop_path_rate=0.999), torch.randn(2, 3, 3, 16)
    assert torch.equal(module.train()(x), x)
    assert not torch.equal(module.eval()(x), x)


@pytest.mark.parametrize('size, half', [((7, 4), (4, 2)), ((1, 1), (1, 1))])
def test_downsample_halves_rounding_up(size, half):
    assert Downsample(3, 8)(torch.randn(2, *size, 3)).shape == (2, *half, 8)
