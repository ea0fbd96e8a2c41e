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


def test_a_start_that_uses_the_scan():
    torch.manual_seed(0)
    backbone = VMamba(ARCH, out_indices=(1,), scan_init='balanced')
    assert all(
        0.1 < share < 1.2
        for share in shares(backbone, torch.randn(1, 3, 32, 48)).values()
    )
