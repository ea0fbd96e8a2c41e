# SPDX-License-Identifier: Apache-2.0
"""Layers of other tuning methods: the identity at first, then what their papers say."""

import pytest
import torch

from mmadaptor.models import Vim, VMamba
from studies.tuning_layers import (
    LowRank,
    MonaLike,
    OffsetScan,
    ParallelAdapter,
    StateOffset,
    TunedVim,
    TunedVMamba,
)

SMALL = dict(arch=dict(embed_dims=16, depths=(1, 2), d_state=2, ssm_ratio=1.0))
SMALL['out_indices'] = (1,)
SMALL_VIM = dict(arch=dict(embed_dims=16, depth=2), img_size=32, patch_size=8)
SMALL_VIM['out_type'] = 'featmap'
# Parameters that a method adds to three blocks of VMamba, and to two of Vim.
ADDED = {
    TunedVMamba: dict(state_offset=3, lora=3 * 3 * 2, parallel=3 * 4, mona=6 * 16),
    TunedVim: dict(state_offset=2, lora=2 * 2, lora_x=2 * 2, parallel=8, mona=2 * 16),
}


@pytest.mark.parametrize(
    'kind, method', [(kind, method) for kind in ADDED for method in ADDED[kind]]
)
def test_a_tuned_base(kind, method, tmp_path):
    """It begins as the base, and every layer of the method gets a gradient."""
    torch.manual_seed(0)
    of_base, arguments = {TunedVMamba: (VMamba, SMALL), TunedVim: (Vim, SMALL_VIM)}[
        kind
    ]
    base = of_base(**arguments)
    torch.save(dict(state_dict=base.state_dict()), tmp_path / 'base.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    tuned = kind(method=method, rank=4, **arguments, init_cfg=start)
    tuned.init_weights()
    images = torch.randn(2, 3, 32, 32)
    (expected,), (found,) = base.eval()(images), tuned.train()(images)
    torch.testing.assert_close(found, expected)
    trains = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
    assert {*trains} == {
        n for n, _ in tuned.named_parameters() if '.added' in n or '.temporal.' in n
    }
    assert len(trains) == ADDED[kind][method]
    with torch.no_grad():
        for parameter in trains.values():
            parameter += 0.1 * torch.randn_like(parameter)
    tuned(images)[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in trains.values())
    assert all(p.grad is None for p in tuned.parameters() if not p.requires_grad)


def test_output_norms_may_train_too():
    tuned = TunedVMamba('lora', **SMALL, trainable=[r'^norm\d\.'])
    trains = {n for n, p in tuned.named_parameters() if p.requires_grad}
    assert {n for n in trains if '.added.' not in n} == {'norm1.weight', 'norm1.bias'}


def test_state_offset_is_a_state_that_every_token_reads():
    layer = StateOffset(3, 2)
    with torch.no_grad():
        layer.state.normal_()
    C = torch.randn(1, 2, 2, 4, 2)
    expected = (C[0, 1, 0, :, None] * layer.state).sum((0, 2))
    torch.testing.assert_close(
        layer(torch.zeros(1, 2, 2, 4, 3, 2), C)[0, 1, 0], expected
    )


def test_the_scan_of_a_vim_has_a_state_for_each_direction():
    scan = OffsetScan(lambda C, u: u, 3, 2)
    with torch.no_grad():
        scan.added.normal_()
    u, C = torch.randn(1, 6, 5), torch.randn(1, 2, 2, 5)
    y = scan(C=C, u=u) - u
    for direction in range(2):
        expected = scan.added[direction] @ C[0, direction, :, 4]
        torch.testing.assert_close(y[0, 3 * direction :, 4][:3], expected)


def test_a_low_rank_update_of_the_first_outputs():
    layer = LowRank(3, 2, rank=3, scale=0.5)
    with torch.no_grad():
        layer.down.weight.copy_(torch.eye(3))
        layer.up.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]]))
    x, y = torch.tensor([2.0, -1.0, 5.0]), torch.ones(4)
    assert layer(x, y).tolist() == [2.0, 5.5, 1.0, 1.0]


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


def test_mona_convolves_the_patches_of_a_sequence():
    """The class token, in the middle, neither gives to them nor takes from them."""
    layer = MonaLike(4, 4)
    torch.nn.init.eye_(layer.up.weight)
    maps, token = torch.randn(1, 2, 3, 4), torch.randn(1, 1, 4)
    patches = maps.flatten(1, 2)
    y = torch.cat([patches[:, :3], token, patches[:, 3:]], dim=1)
    found = layer(None, y, 2, 3)
    expected = layer(None, maps).flatten(1, 2)
    torch.testing.assert_close(found[:, [0, 1, 2, 4, 5, 6]], expected)
    alone = layer(None, token.unsqueeze(1))
    torch.testing.assert_close(found[:, 3], alone[:, 0, 0])


@pytest.mark.parametrize('kind', [TunedVMamba, TunedVim])
def test_another_method_is_refused(kind):
    arguments = SMALL if kind is TunedVMamba else SMALL_VIM
    with pytest.raises(ValueError, match=r"`method` must be .* got 'prompt'"):
        kind('prompt', **arguments)
