# SPDX-License-Identifier: Apache-2.0
"""Test the share of a scan's output that passes through its states."""

import pytest
import torch
from torch import nn

from benchmarks.scan_share import shares
from mmadaptor.models import VMamba

ARCH = dict(embed_dims=8, depths=(1, 2), d_state=1, ssm_ratio=1.0)


@pytest.mark.parametrize('silenced, expected', [('x_proj', 0), ('D', 1)])
def test_a_part_that_is_silent(silenced, expected):
    torch.manual_seed(0)
    backbone = VMamba(ARCH, out_indices=(1,), scan_init='balanced')
    for name, parameter in backbone.named_parameters():
        if silenced in name.split('.'):
            nn.init.zeros_(parameter)
    images = torch.randn(1, 3, 32, 48)
    before = backbone(images)[0]
    result = shares(backbone, images)
    assert result == pytest.approx(
        {
            'stages.0.0.mixer': expected,
            'stages.1.0.mixer': expected,
            'stages.1.1.mixer': expected,
        },
        abs=1e-6,
    )
    assert backbone(images)[0].equal(before)


def test_the_memory_counts_as_part_of_the_states():
    """Also for blocks that share an Adaptor-T. Without B, all states are zero."""
    torch.manual_seed(0)
    adaptors = dict(temporal=dict(gamma_init=1.0), share=True)
    backbone = VMamba(ARCH, out_indices=(1,), scan_init='balanced', adaptors=adaptors)
    for module in backbone.modules():
        if hasattr(module, 'A_log'):
            nn.init.zeros_(module.D)
    images = torch.randn(1, 3, 32, 48)
    assert shares(backbone, images) == pytest.approx(
        dict.fromkeys(('stages.0.0.mixer', 'stages.1.0.mixer', 'stages.1.1.mixer'), 1)
    )
    mixer, seen = backbone.stages[1][1].mixer, {}
    nn.init.ones_(mixer.D)
    mixer.norm.register_forward_pre_hook(lambda _, args: seen.update(y=args[0]))
    mixer.conv.register_forward_hook(lambda _, args, maps: seen.update(maps=maps))
    share = shares(backbone, images)['stages.1.1.mixer']
    x = nn.functional.silu(seen['maps']).permute(0, 2, 3, 1)
    states = seen['y'] - 4 * x
    expected = states.square().mean().sqrt() / seen['y'].square().mean().sqrt()
    assert share == pytest.approx(expected.item(), rel=1e-4)


def test_a_start_that_uses_the_scan():
    torch.manual_seed(0)
    backbone = VMamba(ARCH, out_indices=(1,), scan_init='balanced')
    assert all(
        0.1 < share < 1.2
        for share in shares(backbone, torch.randn(1, 3, 32, 48)).values()
    )
