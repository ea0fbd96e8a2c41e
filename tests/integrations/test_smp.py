# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from integrations.pages import blocks
from torch.testing import assert_close

import mmadaptor  # noqa: F401

PAGE = pathlib.Path(__file__).parents[2] / 'docs/timm.md'
BLOCKS = [code for code in blocks(PAGE) if 'segmentation_models' in code]
ENCODER = 'tu-mamba_adaptor_b0'
DECODERS = [
    'Unet',
    'UnetPlusPlus',
    'UPerNet',
    'FPN',
    'Linknet',
    'MAnet',
    'PSPNet',
    'Segformer',
]


def build(kind, encoder=ENCODER, **arguments):
    torch.manual_seed(0)
    arguments = dict(encoder_weights=None, classes=3) | arguments
    return getattr(smp, kind)(encoder, **arguments)


@pytest.mark.parametrize('kind', DECODERS)
def test_decoders(kind):
    model = build(kind).eval()
    assert model(torch.randn(1, 3, 64, 96)).shape == (1, 3, 64, 96)


def test_maps_of_the_encoder():
    model = build('Unet', in_channels=4).eval()
    assert model.encoder.out_channels == [4, 0, 32, 64, 128, 256]
    images = torch.randn(1, 4, 64, 64)
    maps = model.encoder(images)
    assert [x.shape[2] for x in maps] == [64, 32, 16, 8, 4, 2]
    ours = timm.create_model('mamba_adaptor_b0', features_only=True, in_chans=4).eval()
    ours.load_state_dict(model.encoder.model.state_dict())
    assert_close(maps[2:], ours(images), rtol=0, atol=0)


@pytest.mark.parametrize('kind', ['Unet', 'UPerNet', 'FPN'])
def test_training(kind):
    model = build(kind).train()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = (images.mean(1) > 0).long() + (images[:, 0] > 1)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = loss_of(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_weights_of_the_encoder(tmp_path):
    torch.manual_seed(1)
    source = timm.create_model('mamba_adaptor_b0')
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    overlay = dict(file=tmp_path / 'weights.pth')
    model = build('Unet', encoder_weights=True, pretrained_cfg_overlay=overlay)
    loaded = model.encoder.model.model.state_dict()
    common = loaded.keys() & source.state_dict().keys()
    assert len(common) == len(loaded) - 6  # norm0, norm1 and norm2
    assert all(torch.equal(loaded[n], source.state_dict()[n]) for n in common)


@pytest.mark.parametrize('depth', [2, 3, 4])
def test_depth(depth):
    channels = (64, 32, 16, 8)[:depth]
    model = build('Unet', encoder_depth=depth, decoder_channels=channels).train()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_dpt_of_vim():
    model = build('DPT', 'tu-vim_tiny').eval()
    images = torch.randn(1, 3, 64, 64)
    assert model(images).shape == (1, 3, 64, 64)
    maps, tokens = model.encoder(images)
    assert [x.shape for x in maps] == [(1, 192, 4, 4)] * 4
    assert [x.shape for x in tokens] == [(1, 1, 192)] * 4


@pytest.mark.parametrize('kind', ['UPerNet', 'FPN'])
def test_odd_sizes_are_refused_by_smp(kind):
    with pytest.raises(RuntimeError, match='divisible by 32'):
        build(kind)(torch.randn(1, 3, 65, 64))


@pytest.mark.parametrize(
    'kind, encoder, error, match',
    [
        ('DeepLabV3Plus', ENCODER, TypeError, 'output_stride'),
        ('Unet', 'tu-vim_tiny', ValueError, 'Unsupported model downsampling pattern'),
        ('Unet', 'tu-mamba_adaptor_b9', RuntimeError, 'Unknown model'),
    ],
)
def test_what_is_not_supported(kind, encoder, error, match):
    with pytest.raises(error, match=match):
        build(kind, encoder)


@pytest.mark.parametrize('code', BLOCKS, ids=range(len(BLOCKS)))
def test_page(code):
    assert len([line for line in code.splitlines() if line]) <= 10
    names = {}
    exec(code, names)
    assert names['masks'].shape == (1, 3, 64, 64)
