# SPDX-License-Identifier: Apache-2.0
"""Layers between states and output: by hand, and at the cost of Adaptor-T."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmadaptor.models import VMamba
from mmadaptor.models.layers import AdaptorT
from studies.state_layers import (
    DILATIONS,
    LAYERS,
    NeighborAttention,
    RelatedVMamba,
    StateFusion,
)

SMALL = dict(
    arch=dict(embed_dims=16, depths=(1, 1), d_state=2, ssm_ratio=1.0),
    out_indices=(0, 1),
)
# (row, column) of the places of a window.
WINDOW = [*itertools.product((-1, 0, 1), repeat=2)]


def inputs(channels=8, d_state=2, size=(5, 6)):
    torch.manual_seed(0)
    states = torch.randn(1, *size, 4, channels, d_state, dtype=torch.float64)
    C = torch.randn(1, *size, 4, d_state, dtype=torch.float64)
    return states, C


def at(maps, i, j):
    """The pixel of maps `(1, H, W, ...)`, zeros outside."""
    if 0 <= i < maps.shape[1] and 0 <= j < maps.shape[2]:
        return maps[0, i, j]
    return torch.zeros_like(maps[0, 0, 0])


@pytest.mark.parametrize('i, j', [(2, 3), (0, 5)])
def test_fusion_of_a_pixel(i, j):
    states, C = inputs()
    layer = StateFusion(8, 2).double()
    torch.nn.init.normal_(layer.gamma)
    fused = states[0, i, j].clone()  # (4, D, N)
    for kernels, r in zip(layer.kernels, DILATIONS, strict=True):
        for tap, (down, right) in zip(kernels.flatten(1).T, WINDOW, strict=True):
            fused = fused + tap.view(8, 2) * at(states, i + r * down, j + r * right)
    expected = layer.gamma * (C[0, i, j, :, None] * fused).sum((0, 2))
    torch.testing.assert_close(layer(states, C)[0, i, j], expected)


@pytest.mark.parametrize('i, j', [(2, 3), (0, 5)])
def test_attention_of_a_pixel(i, j):
    states, C = inputs()
    layer = NeighborAttention(8, 2, head_channels=3).double()
    for parameter in (layer.gamma, layer.bias):
        torch.nn.init.normal_(parameter)
    tokens = (C[..., None, :] * states).sum((3, 5))  # (1, H, W, D)
    query, keys = layer.query(tokens), layer.key(tokens)
    expected = []
    for head, r in enumerate(DILATIONS):
        of_head, channels = slice(3 * head, 3 * head + 3), slice(2 * head, 2 * head + 2)
        places = [(i + r * down, j + r * right) for down, right in WINDOW]
        near = torch.stack([at(keys, *place)[of_head] for place in places])
        logits = near @ query[0, i, j, of_head] / 3**0.5
        weights = (logits + layer.bias[head]).softmax(0)
        values = torch.stack([at(states, *place)[:, channels] for place in places])
        memory = (weights.view(9, 1, 1, 1) * values).sum(0)  # (4, 2, N)
        expected.append((C[0, i, j, :, None] * memory).sum((0, 2)))
    torch.testing.assert_close(
        layer(states, C)[0, i, j], layer.gamma * torch.cat(expected)
    )


@pytest.mark.parametrize('name', LAYERS)
def test_a_network_begins_as_vmamba_and_learns(name):
    torch.manual_seed(0)
    plain, related = VMamba(**SMALL), RelatedVMamba(name, **SMALL)
    missing, unexpected = related.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all('.temporal.' in name for name in missing)
    images = torch.randn(1, 3, 32, 40)
    for found, expected in zip(related(images), plain(images), strict=True):
        torch.testing.assert_close(found, expected)
    added = [p for n, p in related.named_parameters() if '.temporal.' in n]
    with torch.no_grad():
        for parameter in added:
            parameter += 0.1
    sum(map_.square().sum() for map_ in related(images)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in added)


def multiply_adds(layer, channels):
    """Return the multiply-adds per token and channel, for one state per channel."""
    states, C = (t.to('meta') for t in inputs(channels, 1, (8, 8)))
    with FlopCounterMode(display=False) as counter:
        layer.double().to('meta')(states, C)
    return counter.get_total_flops() / 2 / 64 / channels


@pytest.mark.parametrize('channels', [32, 256])
def test_about_as_many_multiply_adds(channels):
    assert multiply_adds(AdaptorT(channels), channels) == 96 + 68
    # Four kernels of nine taps in four directions, and the readout.
    assert multiply_adds(StateFusion(channels, 1), channels) == 4 * 36 + 4
    # Tokens, query and key of 56 channels, products, sum in four directions, readout.
    assert multiply_adds(NeighborAttention(channels, 1), channels) == (
        4 + 2 * 56 + 9 * 56 / channels + 4 * 9 + 4
    )
    for kind in LAYERS.values():
        assert 0.9 < multiply_adds(kind(channels, 1), channels) / 164 < 1.1


def test_another_layer_is_refused():
    with pytest.raises(ValueError, match=r"`layer` must be one of .* got 'memory'"):
        RelatedVMamba('memory', **SMALL)
