# SPDX-License-Identifier: Apache-2.0
"""BiMamba: positions of the adaptors, and the class token."""

import pytest
import torch

from mmadaptor.models.layers import BiMamba
from mmadaptor.models.layers.class_token import insert_class_token, split_class_token
from mmadaptor.ops.selective_scan.reference import selective_scan

H, W = 3, 4


def perturbed(**arguments):
    torch.manual_seed(0)
    mixer = BiMamba(16, d_state=3, **arguments).double()
    with torch.no_grad():
        for p in mixer.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return mixer


def test_initialization():
    """The numbers of the published Vim."""
    torch.manual_seed(0)
    mixer = BiMamba(64)
    assert mixer.dt_rank == 4 and BiMamba(24).dt_rank == 2
    for weight in (mixer.in_proj.weight, mixer.out_proj.weight, mixer.x_weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    torch.testing.assert_close(
        mixer.A_log.exp(), torch.arange(1.0, 17).expand(2, 128, 16)
    )
    step = torch.nn.functional.softplus(mixer.dt_bias)
    assert 0.9e-3 < step.min() < 3e-3 and 0.03 < step.max() < 0.11


def test_reversing_the_sequence_and_the_directions_reverses_the_output():
    mixer, x = perturbed(), torch.randn(2, H * W + 1, 16).double()
    expected = mixer(x, H, W).flip(1)
    inner = mixer.out_proj.in_features
    with torch.no_grad():
        for name, p in mixer.named_parameters():
            if name in ('conv.weight', 'conv.bias'):
                p.copy_(p.roll(inner, 0))
            elif 'proj' not in name:
                p.copy_(p.flip(0))
    torch.testing.assert_close(mixer(x.flip(1), H, W), expected)


def test_class_token_in_and_out():
    patches, token = torch.arange(5.0).view(1, 5, 1), torch.full((1, 1, 1), 9.0)
    sequence = insert_class_token(patches, token)
    assert sequence.flatten().tolist() == [0, 1, 9, 2, 3, 4]
    torch.testing.assert_close(split_class_token(sequence), (patches, token))


def readouts_of(arguments):
    """Compute C . h by definition, in image order, without the class token."""
    said = selective_scan(**{**arguments, 'D': None}).unflatten(1, (2, -1))
    sequence = torch.stack([said[:, 0], said[:, 1].flip(-1)], 1)  # (1, 2, D, L)
    patches, _ = split_class_token(sequence.permute(0, 3, 1, 2))
    return patches.unflatten(1, (H, W)).unsqueeze(-1)


def test_the_memory_is_of_readouts():
    mixer = perturbed(temporal=dict(gamma_init=1.0))
    seen = {}
    mixer.temporal.register_forward_pre_hook(
        lambda _, inputs: seen.update(readouts=inputs[0])
    )
    x = torch.randn(1, H * W + 1, 16).double()
    mixer(x, H, W)
    arguments = mixer.scan_arguments(
        mixer.both_ways(mixer.in_proj(x).chunk(2, dim=-1)[0])
    )
    torch.testing.assert_close(seen['readouts'], readouts_of(arguments))


@pytest.mark.parametrize('kind', ['temporal', 'spatial'])
def test_the_class_token_gains_what_the_patches_gain_on_average(kind):
    init = 'gamma_init' if kind == 'temporal' else 'alpha_init'
    mixer = perturbed(**{kind: {init: 1.0}})
    y = torch.randn(1, H * W + 1, 32).double()
    u = torch.randn(1, H * W + 1, 64).double()
    arguments = mixer.scan_arguments(u)
    scanned = torch.randn(1, 64, H * W + 1).double()
    before, token = split_class_token(y)
    after, raised = split_class_token(mixer.adapt(y, scanned, arguments, H, W))
    assert (after - before).abs().mean() > 1e-3
    torch.testing.assert_close((raised - token)[:, 0], (after - before).mean(dim=1))


def test_zero_adaptors_add_nothing_bit_for_bit():
    plain = perturbed()
    adapted = perturbed(temporal={}, spatial={})
    with torch.no_grad():
        adapted.load_state_dict(plain.state_dict(), strict=False)
        adapted.temporal.gamma.zero_()
        adapted.spatial.alpha.zero_()
    x = torch.randn(2, H * W + 1, 16).double()
    assert torch.equal(adapted(x, H, W), plain(x, H, W))
    adapted, plain, x = adapted.float(), plain.float(), x.float()
    assert torch.equal(adapted(x, H, W), plain(x, H, W))


@pytest.mark.parametrize('autocast', [False, True])
def test_what_the_memory_reads_is_not_rounded(autocast):
    """The skip connection is 1000 times as large, and bfloat16 rounds it to 1/256."""
    mixer = perturbed(temporal=dict(gamma_init=1.0), spatial={}).float()
    with torch.no_grad():
        mixer.D.fill_(10.0)
    x = torch.randn(1, H * W + 1, 16)
    if not autocast:
        mixer, x = mixer.bfloat16(), x.bfloat16()
    seen = {}
    mixer.temporal.register_forward_pre_hook(
        lambda _, inputs: seen.update(readouts=inputs[0])
    )
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        y = mixer(x, H, W)
        arguments = mixer.scan_arguments(
            mixer.both_ways(mixer.in_proj(x).chunk(2, dim=-1)[0])
        )
    assert y.dtype == torch.bfloat16 and y.isfinite().all()
    wide = {
        name: value.double() if isinstance(value, torch.Tensor) else value
        for name, value in arguments.items()
    }
    expected = readouts_of(wide)
    torch.testing.assert_close(
        seen['readouts'].double(),
        expected,
        rtol=0,
        atol=2e-3 * expected.abs().max().item(),
    )


def test_zero_adaptors_add_nothing_in_half_precision_either():
    plain = perturbed().bfloat16()
    adapted = perturbed(temporal={}, spatial={}).bfloat16()
    with torch.no_grad():
        adapted.load_state_dict(plain.state_dict(), strict=False)
        adapted.temporal.gamma.zero_()
        adapted.spatial.alpha.zero_()
    x = torch.randn(2, H * W + 1, 16).bfloat16()
    assert torch.equal(adapted(x, H, W), plain(x, H, W))
