# SPDX-License-Identifier: Apache-2.0
"""What makes a layer one that must be called."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from mmadaptor.models.layers.plain_layer import is_plain

CHANGES = {
    'forward hook': lambda layer: layer.register_forward_hook(print),
    'forward pre-hook': lambda layer: layer.register_forward_pre_hook(print),
    'backward hook': lambda layer: layer.register_full_backward_hook(print),
    'backward pre-hook': lambda layer: layer.register_full_backward_pre_hook(print),
    'another forward': lambda layer: setattr(layer, 'forward', print),
    'parametrization': lambda layer: parametrizations.weight_norm(layer),
    'weight of another class': lambda layer: setattr(
        layer, 'weight', nn.parameter.UninitializedParameter()
    ),
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_each_change_alone(change):
    layer = nn.Linear(2, 3)
    assert is_plain(layer, nn.Linear) and not is_plain(layer, nn.Conv2d)
    change(layer)
    assert not is_plain(layer, nn.Linear)


def test_a_removed_hook_and_a_subclass():
    layer = nn.Linear(2, 3)
    layer.register_forward_hook(print).remove()
    assert is_plain(layer, nn.Linear)
    with torch.device('meta'):
        assert is_plain(nn.Linear(2, 3, bias=False), nn.Linear)
    assert not is_plain(
        nn.modules.linear.NonDynamicallyQuantizableLinear(2, 3), nn.Linear
    )
