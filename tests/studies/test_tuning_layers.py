# SPDX-License-Identifier: Apache-2.0
"""Layers of other tuning methods: the identity at first, then what their papers say."""

import pytest
import torch

from mmadaptor.models import VMamba
from studies.tuning_layers import MonaLike, ParallelAdapter, StateOffset, TunedVMamba

SMALL = dict(arch=dict(embed_dims=16, depths=(1, 2), d_state=2, ssm_ratio=1.0))
SMALL['out_indices'] = (1,)


@pytest.mark.parametrize('method', ['state_offset', 'parallel', 'mona'])
def test_a_tuned_base(method, tmp_path):
    """It begins as the base, and every layer of the method gets a gradient."""
    base = VMamba(**SMALL)
    torch.save(dict(state_dict=base.state_dict()), tmp_path / 'base.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    tuned = TunedVMamba(method, rank=4, **SMALL, init_cfg=start)
    tuned.init_weights()
    images = torch.randn(2, 3, 32, 32)
    (expected,), (found,) = base.eval()(images), tuned.train()(images)
    torch.testing.assert_close(found, expected)
    trains = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
    assert {*trains} == {
        n for n, _ in tuned.named_parameters() if '.added.' in n or '.temporal.' in n
    }
    blocks = dict(state_offset=3, parallel=3 * 4, mona=6 * 16)
    assert len(trains) == blocks[method]
    with torch.no_grad():
        for parameter in trains.values():
            parameter += 0.1 * torch.randn_like(parameter)
    tuned(images)[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in trains.values())
    assert all(p.grad is None for p in tuned.parameters() if not p.requires_grad)


def test_state_offset_is_a_state_that_every_token_reads():
    layer = StateOffset(3, 2)
    with torch.no_grad():
        layer.state.normal_()
    C = torch.randn(1, 2, 2, 4, 2)
    expected = (C[0, 1, 0, :, None] * layer.state).sum((0, 2))
    torch.testing.assert_close(
        layer(torch.zeros(1, 2, 2, 4, 3, 2), C)[0, 1, 0], expected
    )


def test_a_parallel_adapter_reads_the_input():
    layer = ParallelAdapter(3, 2, scale=0.5)
    with torch.no_grad():
        layer.down.weight.copy_(torch.eye(3)[:2])
        layer.up.weight.copy_(torch.eye(3)[:, :2])
        layer.down.bias.zero_()
    x, y = torch.tensor([2.0, -1.0, 5.0]), torch.ones(3)
    assert layer(x, y).tolist() == [2.0, 1.0, 1.0]


def test_mona_reaches_three_pixels():
    layer = MonaLike(4, 4)
    torch.nn.init.eye_(layer.up.weight)
    y = torch.randn(1, 9, 9, 4, requires_grad=True)
    layer(None, y)[0, 4, 4].sum().backward()
    reached = y.grad.abs().sum(-1)[0] > 0
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[1:8, 1:8] = True
    assert torch.equal(reached, expected)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match=r"`method` must be .* got 'prompt'"):
        TunedVMamba('prompt', **SMALL)
