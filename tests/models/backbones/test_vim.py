# SPDX-License-Identifier: Apache-2.0
"""Vim: sizes, outputs, images of any size, and the initial adaptors."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from test_mamba_adaptor import perturbed

from mmadaptor.models import Vim
from mmadaptor.models.backbones.vim import resize_positions
from mmadaptor.registry import MODELS

SMALL = dict(arch=dict(embed_dims=16, depth=3), img_size=64)
BOTH = dict(temporal={}, spatial={})


def numbers(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters():
    with torch.device('meta'):
        assert numbers(Vim('tiny')) + 193 * 1000 == 7_148_008
        assert round((numbers(Vim('small')) + 385 * 1000) / 1e6) == 26


def test_adaptors_parameters_and_sharing():
    """Sharing over 24 equal blocks saves 23 / 24 of the parameters, 95.8 %."""
    with torch.device('meta'):
        plain, apart, shared = (
            numbers(Vim('tiny', adaptors=a))
            for a in (None, BOTH, {**BOTH, 'share': True})
        )
    assert (apart - plain) / plain < 0.08
    assert apart - plain == 24 * (shared - plain)


@pytest.mark.parametrize('size', [(64, 64), (45, 70), (1, 1), (16, 100)], ids=str)
def test_any_size(size):
    maps = Vim(**SMALL, out_type='featmap', adaptors=BOTH)(torch.randn(2, 3, *size))
    assert len(maps) == 1 and maps[0].is_contiguous()
    assert maps[0].shape == (2, 16, *(-(-s // 16) for s in size))
    assert maps[0].isfinite().all()
    assert Vim(**SMALL)(torch.randn(2, 3, *size))[-1].shape == (2, 16)


def test_images_of_a_batch_are_independent():
    model = perturbed(Vim(**SMALL, adaptors=BOTH))
    images = torch.randn(2, 3, 48, 64)
    for image, whole in zip(images, model(images)[-1]):
        torch.testing.assert_close(model(image[None])[-1][0], whole)


def test_positions_are_resized_around_the_class_token():
    rows = torch.arange(4.0)[:, None].expand(4, 6).reshape(1, 24, 1)
    positions = torch.cat([rows[:, :12], torch.full((1, 1, 1), 99.0), rows[:, 12:]], 1)
    assert resize_positions(positions, (4, 6), (4, 6)) is positions
    resized = resize_positions(positions, (4, 6), (8, 3))
    assert resized.shape == (1, 25, 1) and resized[0, 12] == 99
    patches = torch.cat([resized[0, :12], resized[0, 13:]]).view(8, 3)
    torch.testing.assert_close(patches, patches[:, :1].expand(8, 3))
    assert (patches[1:, 0] > patches[:-1, 0]).all()


def test_positions_are_resized_by_bicubic_interpolation():
    positions = torch.randn(1, 25, 2)
    resized = resize_positions(positions, (4, 6), (3, 5))
    patches = torch.cat([positions[:, :12], positions[:, 13:]], dim=1)
    maps = patches.transpose(1, 2).reshape(1, 2, 4, 6)
    expected = F.interpolate(maps, (3, 5), mode='bicubic').flatten(2).transpose(1, 2)
    torch.testing.assert_close(resized[:, :7], expected[:, :7])
    torch.testing.assert_close(resized[:, 7], positions[:, 12])
    torch.testing.assert_close(resized[:, 8:], expected[:, 7:])


def test_images_are_padded_at_the_bottom_and_on_the_right():
    model, images = perturbed(Vim(**SMALL)), torch.randn(2, 3, 45, 70)
    padded = torch.zeros(2, 3, 48, 80)
    padded[:, :, :45, :70] = images
    assert torch.equal(model(images)[0], model(padded)[0])


def test_out_indices_and_the_final_norm():
    model = perturbed(Vim(**SMALL, out_type='featmap', out_indices=(0, 2, -1)))
    first, last, again = model(torch.randn(1, 3, 64, 64))
    assert torch.equal(last, again)
    unit = (last / model.norm.weight.view(1, -1, 1, 1)).square()
    assert 0.5 < unit.mean() < 1.1
    assert not torch.allclose(first, last)


def test_blocks_that_no_output_needs_are_not_run():
    model = Vim(
        **SMALL,
        out_type='featmap',
        out_indices=(0, 1),
        adaptors={**BOTH, 'share': True},
    ).train()
    model.layers[2].register_forward_pre_hook(lambda *_: pytest.fail('it ran'))
    sum(m.sum() for m in model(torch.randn(1, 3, 64, 64))).backward()
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learns == {n for n, p in model.named_parameters() if p.grad is not None}
    assert 'layers.0.mixer.temporal.gamma' in learns


def test_zero_adaptors_equal_vim_bit_for_bit():
    plain = perturbed(Vim(**SMALL))
    for adaptors in (BOTH, {**BOTH, 'share': True}):
        adapted = Vim(**SMALL, adaptors=adaptors).eval()
        missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
        assert not unexpected and missing
        assert all('.temporal.' in k or '.spatial.' in k for k in missing)
        images = torch.randn(2, 3, 50, 64)
        assert torch.equal(adapted(images)[-1], plain(images)[-1])


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
def test_every_parameter_learns(out_type):
    torch.manual_seed(0)
    model = Vim(
        **SMALL,
        out_type=out_type,
        adaptors=dict(temporal=dict(gamma_init=1.0), spatial=dict(alpha_init=1.0)),
    )
    output = model(torch.randn(2, 3, 64, 64))[-1]
    (output * torch.randn_like(output)).sum().backward()
    still = [
        n
        for n, p in model.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert still == []


def test_recomputing_changes_nothing():
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = Vim(**SMALL, with_cp=with_cp, adaptors=BOTH)
        model(torch.ones(1, 3, 64, 64))[-1].square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


@pytest.mark.parametrize('stages', [-1, 0, 2, 3])
def test_frozen_stages(stages):
    model = Vim(**SMALL, frozen_stages=stages).train()
    assert model.pos_embed.requires_grad == (stages < 0)
    assert {p.requires_grad for p in model.patch_embed.parameters()} == {stages < 0}
    for i, layer in enumerate(model.layers):
        assert {p.requires_grad for p in layer.parameters()} == {i >= stages}
        assert layer.training == (i >= stages)


def test_drop_path_grows_from_block_to_block():
    model = Vim(**SMALL, drop_path_rate=0.2)
    assert [b.drop_path.drop_prob for b in model.layers] == pytest.approx([0, 0.1, 0.2])


def test_a_pyramid_by_mmsegs_neck():
    pytest.importorskip('mmseg')
    from mmseg.models import Feature2Pyramid

    model = MODELS.build(
        Config(
            dict(
                model=dict(
                    type='mmadaptor.Vim',
                    **SMALL,
                    out_type='featmap',
                    out_indices=(-1, -1, -1, -1),
                )
            )
        ).model
    )
    neck = Feature2Pyramid(16, norm_cfg=dict(type='BN'))
    sides = [tuple(m.shape[1:]) for m in neck(model(torch.randn(2, 3, 64, 96)))]
    assert sides == [(16, 16, 24), (16, 8, 12), (16, 4, 6), (16, 2, 3)]


def test_autocast_trains_without_nan():
    torch.manual_seed(0)
    model = Vim(**SMALL, adaptors=BOTH)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = model(torch.randn(2, 3, 64, 64))[-1]
    F.mse_loss(output.float(), torch.ones(2, 16)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(drop_path_rate=1.0), '`drop_path_rate` must be 0 or more.*got 1.0'),
        (dict(arch='huge'), r"`arch` of Vim must be one of .*got 'huge'"),
        (dict(arch=dict(depth=8)), r"`arch` as a dict must have.*got \['depth"),
        (dict(out_type='map'), r"`out_type` must be one of .*got 'map'"),
        (dict(arch=3), '`arch` as a dict must have the keys .*got 3'),
        (dict(img_size=0), '`img_size` must be an integer of 1 or more.*got 0'),
        (dict(out_indices=24), '`out_indices` must be one or more indices.*got 24'),
        (
            dict(out_indices=(24,)),
            r'`out_indices` must be one or more indices from -24 to 23, got \(24,\)',
        ),
        (
            dict(frozen_stages=25),
            '`frozen_stages` must be an integer from -1 to 24, got 25',
        ),
        (dict(adaptors=dict(spatial={}, blocks=[[24]])), 'block indices from 0 to 23'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message), torch.device('meta'):
        Vim(**arguments)


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match='depths'):
        Vim(depths=3)
