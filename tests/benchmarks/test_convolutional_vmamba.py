# SPDX-License-Identifier: Apache-2.0
"""VMamba without its scans."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.convolutional_vmamba import ConvolutionalVMamba
from mmadaptor.models import VMamba

ARCH = dict(embed_dims=8, depths=(1, 2), d_state=1, ssm_ratio=1.0)


def test_the_scans_are_the_identity():
    """In the VMamba, C = 0 and D = 1/4 make each scan the identity."""
    torch.manual_seed(0)
    spatial = dict(spatial=dict(alpha_init=1.0))
    model = ConvolutionalVMamba(ARCH, out_indices=(0, 1), adaptors=spatial)
    scanning = VMamba(ARCH, out_indices=(0, 1), adaptors=spatial)
    missing, unexpected = scanning.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert {name.split('.mixer.')[-1] for name in missing} == {
        'x_proj.weight',
        'dt_weight',
        'dt_bias',
        'A_log',
        'D',
    }
    for stage in scanning.stages:
        for block in stage:
            torch.nn.init.zeros_(block.mixer.x_proj.weight)
            torch.nn.init.constant_(block.mixer.D, 0.25)
    images = torch.randn(1, 3, 32, 48)
    for a, b in zip(model(images), scanning(images), strict=True):
        torch.testing.assert_close(a, b)


def test_a_block_by_hand():
    torch.manual_seed(0)
    mixer = ConvolutionalVMamba(ARCH, out_indices=(0, 1)).stages[1][0].mixer
    x = torch.randn(1, 3, 4, 16)
    maps = F.linear(x, mixer.in_proj.weight).permute(0, 3, 1, 2)
    y = F.silu(F.conv2d(maps, mixer.conv.weight, padding=1, groups=16))
    expected = F.linear(mixer.norm(y.permute(0, 2, 3, 1)), mixer.out_proj.weight)
    torch.testing.assert_close(mixer(x), expected)


def test_a_memory_needs_states():
    with pytest.raises(ValueError, match='must have no `temporal`'):
        ConvolutionalVMamba(ARCH, out_indices=(0, 1), adaptors=dict(temporal={}))
