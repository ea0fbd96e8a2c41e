# SPDX-License-Identifier: Apache-2.0
"""The linear layer on maps equals that of torch for every implementation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmadaptor.models.layers.channels_last_linear import (
    apply_linear,
    channels_last_linear,
)


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def gradients(function, x, layer):
    y = function(x, layer.weight, layer.bias)
    parameters = [p for p in (x, layer.weight, layer.bias) if p is not None]
    return y, *torch.autograd.grad((y * y).sum(), parameters)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    'shape', [(2, 5, 7, 6), (1, 1, 1, 6), (2, 3, 4, 4, 6), (0, 3, 4, 6)], ids=str
)
def test_it_is_a_linear_layer(shape, dtype, bias):
    torch.manual_seed(0)
    layer = nn.Linear(6, 5, bias).to(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    for actual, expected in zip(
        gradients(channels_last_linear, x, layer),
        gradients(F.linear, x, layer),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert channels_last_linear(x, layer.weight, layer.bias).is_contiguous()


def test_strides_and_autocast():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    x = torch.randn(2, 6, 5, 7).permute(0, 2, 3, 1)
    torch.testing.assert_close(
        apply_linear(layer, x),
        F.linear(x, layer.weight, layer.bias),
        rtol=1e-5,
        atol=1e-5,
    )
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = apply_linear(layer, x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=2e-2, atol=2e-2)
