# SPDX-License-Identifier: Apache-2.0
"""SS2D compared with its definition, written with the reference ops."""

import pytest
import torch
import torch.nn.functional as F

from mmadaptor.models.layers import SS2D
from mmadaptor.models.layers.scan_init import inverse_softplus
from mmadaptor.ops.cross_selective_scan import reference


@pytest.mark.parametrize('d_state, ssm_ratio', [(1, 1.0), (2, 2.0)])
def test_it_equals_its_definition(d_state, ssm_ratio):
    torch.manual_seed(0)
    mixer = SS2D(16, d_state, ssm_ratio).double()
    x = torch.randn(2, 5, 3, 16, dtype=torch.float64)
    inner = int(16 * ssm_ratio)

    u = F.linear(x, mixer.in_proj.weight).permute(0, 3, 1, 2)
    u = F.silu(F.conv2d(u, mixer.conv.weight, padding=1, groups=inner))
    u = u.permute(0, 2, 3, 1)
    weights = mixer.x_proj.weight.view(4, 1 + 2 * d_state, inner)
    predicted = torch.einsum('bhwd,kpd->bhwkp', u, weights)
    delta = torch.einsum('bhwkr,kdr->bhwkd', predicted[..., :1], mixer.dt_weight)
    B, C = predicted[..., 1:].chunk(2, dim=-1)
    y = reference.cross_selective_scan(
        u, delta, -mixer.A_log.exp(), B, C, mixer.D, mixer.dt_bias, True
    )
    expected = F.linear(mixer.norm(y), mixer.out_proj.weight)
    torch.testing.assert_close(mixer(x), expected)


def test_initialization():
    torch.manual_seed(0)
    mixer = SS2D(64, d_state=3)
    assert mixer.dt_rank == 4
    torch.testing.assert_close(
        mixer.A_log.exp(), torch.tensor([1.0, 2.0, 3.0]).expand(4, 64, 3)
    )
    assert (mixer.D == 1).all()
    step = F.softplus(mixer.dt_bias)
    assert 0.9e-3 < step.min() < 3e-3 and 0.03 < step.max() < 0.11
    assert mixer.dt_weight.abs().max() <= 0.5
    assert mixer.in_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize('channels', [32, 192])
@pytest.mark.parametrize(
    'scan_init, low, high', [('vmamba', 0, 0.002), ('balanced', 0.1, 2)]
)
def test_the_scans_part_of_the_output(scan_init, low, high, channels):
    torch.manual_seed(0)
    mixer = SS2D(channels, scan_init=scan_init)
    maps = mixer.in_proj(torch.randn(2, 28, 28, channels)).permute(0, 3, 1, 2)
    x = F.silu(mixer.conv(maps)).permute(0, 2, 3, 1)
    skipped = x * mixer.D.sum(dim=0)
    scanned = mixer.scan_map(x) - skipped
    assert low < scanned.std() / skipped.std() < high


def test_a_balanced_start_keeps_the_variance():
    """Of the input; B and C are three times theirs, and the steps are as before."""
    torch.manual_seed(0)
    mixer = SS2D(128, d_state=2, scan_init='balanced')
    x = torch.randn(1, 32, 32, 128)
    y = mixer.in_proj(x)
    assert y.std().item() == pytest.approx(1, rel=0.1)
    assert mixer.out_proj(x).std().item() == pytest.approx(1, rel=0.1)
    maps = mixer.conv(torch.randn(1, 128, 32, 32))
    assert maps.std().item() == pytest.approx(1, rel=0.1)
    step, coefficients = mixer.x_proj(x).unflatten(-1, (4, -1)).split([8, 4], dim=-1)
    assert coefficients.std().item() == pytest.approx(3, rel=0.1)
    assert step.std().item() == pytest.approx(3**-0.5, rel=0.1)  # as torch's layers


def test_inverse_softplus():
    value = torch.tensor([1e-4, 1e-2, 1.0, 30.0])
    torch.testing.assert_close(F.softplus(inverse_softplus(value)), value)


def test_the_scans_parameters_stay_wide_in_a_half_precision_model():
    torch.manual_seed(0)
    mixer = SS2D(16).bfloat16()
    y = mixer(torch.randn(1, 4, 4, 16).bfloat16())
    assert y.dtype == torch.bfloat16 and y.isfinite().all()


def test_adaptors_are_where_they_belong():
    """The memory is added to the scan, and Adaptor-S is applied to the sum."""
    torch.manual_seed(0)
    mixer = SS2D(16, temporal=dict(gamma_init=1.0), spatial=dict(alpha_init=1.0))
    x, seen = torch.randn(1, 4, 4, 16), {}
    mixer.temporal.register_forward_hook(
        lambda _, inputs, output: seen.update(states=inputs[0], added=output)
    )
    mixer.spatial.register_forward_pre_hook(
        lambda _, inputs: seen.update(sum=inputs[0])
    )
    mixer(x)
    plain = SS2D(16)
    plain.load_state_dict(mixer.state_dict(), strict=False)
    u = F.silu(plain.conv(plain.in_proj(x).permute(0, 3, 1, 2)))
    y = plain.scan_map(u.permute(0, 2, 3, 1))
    assert seen['states'].shape == (1, 4, 4, 4, 16, 1)
    torch.testing.assert_close(seen['sum'], y + seen['added'])


@torch.no_grad()
def test_the_memory_may_exceed_the_largest_number_of_float16():
    """Under autocast to float16, as may the scan that it is added to."""
    torch.manual_seed(0)
    mixer = SS2D(16, temporal=dict(gamma_init=1.0), scan_init='balanced')
    x, added = 100 * torch.randn(1, 4, 4, 16), []
    mixer.temporal.register_forward_hook(lambda _, inputs, output: added.append(output))
    expected = mixer(x)
    with torch.autocast('cpu', dtype=torch.float16):
        y = mixer(x)
    largest = added[0].abs().max().item()
    assert largest > 65504
    torch.testing.assert_close(added[1], added[0], rtol=0, atol=0.01 * largest)
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.05)
