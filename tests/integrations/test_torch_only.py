# SPDX-License-Identifier: Apache-2.0
"""Models and checkpoints where neither mmengine nor mmcv is installed."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from helpers.reference_models import vim_shapes, vmamba_shapes, weights
from integrations.pages import run
from torch import nn

from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.checkpoints.writing import save
from mmadaptor.errors import CheckpointMismatchError, InputError, UnsafeCheckpointError
from mmadaptor.models import (
    ARCHITECTURES,
    Classifier,
    MambaAdaptor,
    SimpleFeaturePyramid,
    Vim,
    VMamba,
    create_backbone,
    create_classifier,
)
from mmadaptor.models.layers import AdaptorS, AdaptorT

SMALL = dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=2, ssm_ratio=1.0)


def test_openmmlab_is_not_here():
    for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain'):
        assert importlib.util.find_spec(name) is None


def test_import_brings_torch_alone():
    code = (
        'import json, sys, mmadaptor.models; '
        'print(json.dumps([n for n in sys.modules if "." not in n]))'
    )
    shown = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(shown.stdout))
    assert 'torch' in modules
    assert not modules & {'timm', 'transformers', 'torchvision', 'mmengine', 'peft'}


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_every_architecture_has_its_channels_and_strides(name):
    with torch.device('meta'):
        backbone = create_backbone(name)
    kind, arch = ARCHITECTURES[name]
    assert type(backbone) is kind
    assert backbone.embed_dims == kind.arch_settings[arch]['embed_dims']
    assert len(backbone.strides) == len(backbone.out_channels)


@pytest.mark.parametrize('indices', [(0, 2), (3,), (-1, 0), 1])
def test_channels_and_strides_are_those_of_the_maps(indices):
    backbone = VMamba(SMALL, out_indices=indices)
    maps = backbone(torch.rand(1, 3, 96, 64))
    assert [m.shape[1] for m in maps] == list(backbone.out_channels)
    assert [96 // m.shape[2] for m in maps] == list(backbone.strides)
    vim = Vim(
        dict(embed_dims=8, depth=2), 64, 8, out_indices=(0, 1), out_type='featmap'
    )
    maps = vim(torch.rand(1, 3, 96, 64))
    assert [m.shape[1] for m in maps] == list(vim.out_channels)
    assert [96 // m.shape[2] for m in maps] == list(vim.strides)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_weights_travel(suffix, tmp_path):
    """From a classifier to a backbone, to another classifier, and with a new head."""
    torch.manual_seed(0)
    path = tmp_path / f'classifier{suffix}'
    first = create_classifier('mamba_adaptor_b0', 7, in_channels=4).eval()
    save(dict(state_dict=first.state_dict()), str(path))
    images = torch.rand(2, 4, 64, 64)

    again = create_classifier('mamba_adaptor_b0', 7, path, in_channels=4).eval()
    torch.testing.assert_close(again(images), first(images), rtol=0, atol=0)
    expected = first.backbone(images)[-1]
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    for arguments in (dict(pretrained=path), dict(init_cfg=init_cfg)):
        backbone = create_backbone('mamba_adaptor_b0', in_channels=4, **arguments)
        got = backbone.eval()(images)[-1]
        torch.testing.assert_close(got, expected, rtol=0, atol=0)

    with pytest.raises(
        CheckpointMismatchError, match=r'head\.fc\.weight: expected \(3'
    ):
        create_classifier('mamba_adaptor_b0', 3, path, in_channels=4)
    tuned = create_classifier(
        'mamba_adaptor_b0', 3, path, skip=[r'^head\.'], in_channels=4
    )
    assert tuned(images).shape == (2, 3)
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(tuned.backbone.state_dict()[name], value)


@pytest.mark.parametrize('wrapped', ['model', 'state_dict', None])
@pytest.mark.parametrize(
    'shapes, build, ours, theirs',
    [
        (
            vmamba_shapes(8, (1, 1, 1, 1), 2, classes=5),
            lambda: VMamba(SMALL),
            'downsample_layers.0.0.weight',
            'patch_embed.0.weight',
        ),
        (
            vim_shapes(8, 2, tokens=16, patch=16, classes=5),
            lambda: Vim(dict(embed_dims=8, depth=2), img_size=64),
            'patch_embed.projection.weight',
            'patch_embed.proj.weight',
        ),
    ],
    ids=['vmamba', 'vim'],
)
def test_published_files_are_recognized(shapes, build, ours, theirs, wrapped, tmp_path):
    path = tmp_path / 'published.pth'
    state = weights(shapes)
    torch.save(state if wrapped is None else {wrapped: state}, path)
    model = build()
    model.load_pretrained(dict(checkpoint=path))
    assert torch.equal(model.get_parameter(ours), state[theirs].float())


def test_published_files_of_another_size_are_refused(tmp_path):
    path = tmp_path / 'published.pth'
    torch.save(dict(model=weights(vmamba_shapes(8, (1, 2, 1, 1), 2))), path)
    with pytest.raises(CheckpointMismatchError, match='published.pth does not fit'):
        VMamba(SMALL).load_pretrained(dict(checkpoint=str(path)))


def test_other_files_are_refused(tmp_path):
    path = str(tmp_path / 'resnet.pth')
    torch.save(nn.Conv2d(3, 8, 3).state_dict(), path)
    with pytest.raises(CheckpointMismatchError, match='unexpected'):
        create_backbone('vmamba_tiny', path)
    with pytest.raises(InputError, match='no such checkpoint file'):
        create_backbone('vmamba_tiny', 'gone.pth')
    with pytest.raises(InputError, match='s3://a/b.pth: expected a path or an address'):
        create_backbone('vmamba_tiny', 's3://a/b.pth')
    torch.save(dict(state_dict={}, model=print), path)
    with pytest.raises(UnsafeCheckpointError, match=r'object \(print\)'):
        create_backbone('vmamba_tiny', path)


def test_a_checkpoint_of_mmengine_is_read(tmp_path):
    """Histories of its logs become their numbers."""
    source = (
        'import pickle, sys, types\n'
        'import numpy as np\n'
        "module = types.ModuleType('mmengine.logging.history_buffer')\n"
        'class HistoryBuffer: pass\n'
        'HistoryBuffer.__module__ = module.__name__\n'
        'module.HistoryBuffer = HistoryBuffer\n'
        "for n in ('mmengine', 'mmengine.logging'):\n"
        '    sys.modules[n] = types.ModuleType(n)\n'
        'sys.modules[module.__name__] = module\n'
        'import torch\n'
        'history = HistoryBuffer()\n'
        'history.__dict__.update(_log_history=np.array([1., 2.]), max_length=9,\n'
        '    _count_history=np.array([1, 1]))\n'
        "torch.save(dict(state_dict={'a': torch.ones(1)}, hub=history), sys.argv[1])\n"
    )
    path = str(tmp_path / 'epoch_1.pth')
    subprocess.run([sys.executable, '-c', source, path], check=True)
    hub = read_checkpoint(path)['hub']
    assert hub['values'].tolist() == [1.0, 2.0] and hub['max_length'] == 9


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda: create_backbone('vmamba_tini'), "did you mean 'vmamba_tiny'"),
        (lambda: create_backbone('resnet50'), "no architecture 'resnet50': expected"),
        (lambda: create_backbone(None), 'no architecture None'),
        (lambda: create_backbone('vim_tiny', out_indices=(24,)), '`out_indices` must'),
        (lambda: create_backbone('vim_tiny', img_size='224'), '`img_size` must'),
        (lambda: create_backbone('vmamba_tiny', in_channels=0), '`in_channels` must'),
        (lambda: create_classifier('vmamba_tiny', 0.5), '`num_classes` must'),
        (
            lambda: create_classifier('mamba_adaptor_b0', 2, 'a.pth', skip=r'^head\.'),
            r"`skip` must be a list of regular .*got '\^head",
        ),
        (
            lambda: create_classifier('mamba_adaptor_b0', 2, 'a.pth', skip=['(']),
            r"`skip` contains '\(', which is not a regular expression",
        ),
        (
            lambda: VMamba(SMALL, norm_cfg=dict(type='GRN')),
            "must be a class or one of .* where mmcv is not installed, got 'GRN'",
        ),
        (lambda: VMamba(SMALL, norm_cfg=dict(type=nn.BatchNorm2d)), 'last dimension'),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_keywords_are_named():
    with pytest.raises(TypeError, match="'depth'"):
        create_backbone('vmamba_tiny', depth=3)


def test_norms_by_name_and_class():
    for kind in ('LN', 'RMSNorm', nn.RMSNorm):
        model = VMamba(SMALL, norm_cfg=dict(type=kind, eps=1e-3, requires_grad=False))
        kinds = (nn.LayerNorm, nn.RMSNorm)
        norms = [m for m in model.modules() if isinstance(m, kinds)]
        assert len(norms) == 5 + 3 * 4 + 4  # stem and downsampling, blocks, outputs
        for norm in norms:
            assert type(norm) is (nn.LayerNorm if kind == 'LN' else nn.RMSNorm)
            assert norm.eps == 1e-3 and not norm.weight.requires_grad
        assert model(torch.rand(1, 3, 32, 32))[-1].isfinite().all()
    assert VMamba(SMALL, norm_cfg=dict(type='RMSNorm')).norm3.eps == 1e-5


def test_a_classifier_pools_and_drops():
    backbone = VMamba(SMALL, out_indices=(3,))
    model, images = Classifier(backbone, 4, drop_rate=0.25), torch.rand(2, 3, 40, 64)
    assert model.head.drop.p == 0.25
    expected = model.head.fc(backbone(images)[0].mean((2, 3)))
    torch.testing.assert_close(model.eval()(images), expected)


def test_a_classifier_learns():
    torch.manual_seed(0)
    model = create_classifier('mamba_adaptor_b0', 2, in_channels=5)
    images = torch.rand(8, 5, 32, 32)
    labels = torch.arange(8) % 2
    images[labels == 1, 4] += 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.eval()(images).argmax(1) == labels).all()


def test_the_pyramid_and_tuning_need_no_mmengine():
    neck = SimpleFeaturePyramid(16, 8)
    neck.init_weights()
    assert len(neck([torch.rand(1, 16, 8, 8)])) == 5
    model = MambaAdaptor(
        SMALL,
        adaptors=dict(temporal={}, spatial={}, share=True),
        trainable=['adaptors', 'norms'],
    )
    trained = {p for p in model.parameters() if p.requires_grad}
    kinds = (AdaptorT, AdaptorS, nn.LayerNorm)
    parts = [m for m in model.modules() if isinstance(m, kinds)]
    assert trained == {p for part in parts for p in part.parameters()}


def test_the_page(tmp_path, monkeypatch):
    names = run('torch.md', tmp_path, monkeypatch)
    assert [tuple(m.shape) for m in names['maps']] == [
        (1, 96, 56, 56),
        (1, 192, 28, 28),
        (1, 384, 14, 14),
        (1, 768, 7, 7),
    ]
