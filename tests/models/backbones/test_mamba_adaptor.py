# SPDX-License-Identifier: Apache-2.0
"""Mamba-Adaptor: VMamba with adaptors, at the sizes of the paper."""

import pytest
import torch
from test_vmamba import SMALL, numbers, with_head

from mmadaptor.models import MambaAdaptor, VMamba


def perturbed(model, seed=0):
    """Add noise to every parameter, to imitate a trained model."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return model.eval()


@pytest.mark.parametrize('arch, millions', [('b1', 7.8), ('b2', 32.0)])
def test_parameters_are_the_papers(arch, millions):
    with torch.device('meta'):
        model = MambaAdaptor(arch, out_indices=(3,))
    assert with_head(model) / 1e6 == pytest.approx(millions, rel=0.03)


def test_b0_is_small():
    assert with_head(MambaAdaptor('b0')) < 2e6


def test_zero_adaptors_equal_vmamba_bit_for_bit():
    adapted = MambaAdaptor('b0')
    plain = perturbed(VMamba(MambaAdaptor.arch_settings['b0']))
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all('.temporal.' in k or '.spatial.' in k for k in missing)
    images = torch.randn(2, 3, 50, 64)
    for a, b in zip(adapted.eval()(images), plain(images)):
        assert torch.equal(a, b)


def test_adaptors_change_the_maps_once_they_learned():
    adapted = perturbed(MambaAdaptor(SMALL))
    plain = VMamba(SMALL).eval()
    plain.load_state_dict(adapted.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(adapted(images)[0], plain(images)[0], atol=1e-3)


def test_state_dict_round_trip(tmp_path):
    model, other = perturbed(MambaAdaptor('b0')), MambaAdaptor('b0').eval()
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    other.load_state_dict(torch.load(tmp_path / 'model.pth', weights_only=True))
    images = torch.randn(1, 3, 64, 48)
    for a, b in zip(model(images), other(images)):
        assert torch.equal(a, b)


def test_deploy_and_back():
    model, images = perturbed(MambaAdaptor('b0')), torch.randn(1, 3, 64, 48)
    before = model(images)
    model.switch_to_deploy()
    for a, b in zip(model(images), before):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    model.switch_to_train()
    for a, b in zip(model(images), before):
        assert torch.equal(a, b)


def test_static_places_are_an_option():
    static = MambaAdaptor(SMALL, adaptors=dict(temporal=dict(static=True)))
    learned = MambaAdaptor(SMALL, adaptors=dict(temporal=dict()))
    assert numbers(static) < numbers(learned)
    assert 'stages.0.0.mixer.temporal.offsets.weight' not in static.state_dict()


def test_autocast_trains_without_nan():
    torch.manual_seed(0)
    model = MambaAdaptor('b0').train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        maps = model(torch.randn(2, 3, 64, 64))
    sum(m.float().square().mean() for m in maps).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_unknown_arch_and_keyword_are_named():
    with pytest.raises(ValueError, match="`arch` of MambaAdaptor.*got 'b3'"):
        MambaAdaptor('b3')
    with pytest.raises(TypeError, match='depth'):
        MambaAdaptor(depth=3)
