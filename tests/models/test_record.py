# SPDX-License-Identifier: Apache-2.0
"""Records of the scans and the places of a backbone."""

import pytest
import torch
from test_mamba_adaptor import perturbed

from mmadaptor.models import Vim, VMamba
from mmadaptor.models.record import log_decays, record_memory, recording

STAGES = dict(embed_dims=16, depths=(1, 1), d_state=1, ssm_ratio=1.0)


@pytest.mark.parametrize('share', [False, True])
def test_a_second_call_is_recorded_whole(share):
    adaptors = dict(temporal={}, share=share)
    model = VMamba(
        dict(STAGES, depths=(2, 1)), adaptors=adaptors, out_indices=(0, 1)
    ).eval()
    perturbed(model)
    first, second = torch.randn(2, 1, 3, 32, 32)
    with torch.no_grad(), recording(model) as records:
        model(first)
        model(second)
    expected = record_memory(model, second)
    assert list(records) == list(expected) and len(records) == 3
    for path, record in records.items():
        for name in ('locations', 'weights'):
            actual, value = getattr(record, name), getattr(expected[path], name)
            torch.testing.assert_close(actual, value, msg=lambda m, p=path: f'{p}: {m}')


@pytest.mark.parametrize('size', [(8, 8), (8, 16), (16, 8), (24, 16)], ids=str)
def test_decays_of_vim_take_in_the_class_token(size):
    """Each is the product of those of the steps of the scan since the last patch."""
    model = Vim(
        dict(embed_dims=16, depth=1),
        img_size=16,
        patch_size=8,
        adaptors=dict(temporal={}),
    ).eval()
    perturbed(model)
    (record,) = record_memory(model, torch.randn(2, 3, *size)).values()
    height, width = (side // 8 for side in size)
    arguments = {k: v for k, v in record.arguments.items() if torch.is_tensor(v)}
    delta, bias, A = (arguments[name] for name in ('delta', 'delta_bias', 'A'))
    steps = torch.nn.functional.softplus(delta + bias[:, None])  # (B, 2 D, L)
    patches, token = height * width, height * width // 2
    expected = torch.zeros(2, patches, 2, A.shape[0] // 2, A.shape[1])
    for k, (rates, scanned) in enumerate(zip(A.chunk(2), steps.chunk(2, dim=1))):
        order = list(range(patches + 1))
        skipped = torch.zeros_like(scanned[..., 0])
        for t, position in enumerate(order if k == 0 else order[::-1]):
            if position == token:
                skipped = scanned[..., t]
                continue
            total = scanned[..., t] + skipped  # (B, D)
            skipped = torch.zeros_like(skipped)
            patch = position - (position > token)
            expected[:, patch, k] = total[..., None] * rates
    actual = log_decays(record)
    assert actual.shape[1:3] == (height, width)
    torch.testing.assert_close(actual.flatten(1, 2), expected)
