# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds at 224 px, including the head, compared with the published ones."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmadaptor.models import MambaAdaptor, VMamba


def multiply_adds(backbone, **arguments):
    with torch.device('meta'):
        model = backbone(out_indices=(3,), **arguments)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 224, 224))
    return counter.get_total_flops() / 2 + model.norm3.weight.numel() * 1000


@pytest.mark.parametrize(
    'arch, published', [('tiny', 4.9e9), ('small', 8.7e9), ('base', 15.4e9)]
)
def test_vmamba(arch, published):
    assert multiply_adds(VMamba, arch=arch) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize('arch, published', [('b1', 1.4e9), ('b2', 5.4e9)])
def test_mamba_adaptor(arch, published):
    assert multiply_adds(MambaAdaptor, arch=arch) == pytest.approx(published, rel=0.03)


def test_adaptors_cost_less_than_7_percent_at_b2():
    plain = multiply_adds(VMamba, arch=dict(MambaAdaptor.arch_settings['b2']))
    assert 1 < multiply_adds(MambaAdaptor, arch='b2') / plain < 1.07
