# SPDX-License-Identifier: Apache-2.0
import logging
import re
import sys
import types

import numpy as np
import pytest
import timm
import torch
from helpers.reference_models import (
    vim_logits,
    vim_shapes,
    vmamba,
    vmamba_logits,
    vmamba_shapes,
    weights,
)
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch.testing import assert_close

from mmadaptor.errors import CheckpointMismatchError, InputError
from mmadaptor.models import create_classifier

BOTH = ('mamba_adaptor_b0', 'vim_tiny')
IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def load(name, file, **arguments):
    torch.manual_seed(2)
    overlay = dict(file=file)
    return timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments
    ).eval()


@pytest.fixture(scope='module', params=BOTH)
def trained(request):
    torch.manual_seed(0)
    model = create_classifier(request.param, 5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return request.param, model


@pytest.fixture
def file(trained, tmp_path):
    path = str(tmp_path / 'weights.pth')
    torch.save(trained[1].state_dict(), path)
    return path


@pytest.fixture
def name(trained):
    return trained[0]


@pytest.fixture
def expected(trained):
    with torch.no_grad():
        return trained[1](IMAGES)


def history_of_mmengine(monkeypatch):
    """Return a log of a training as mmengine pickles it, without mmengine."""
    module = types.ModuleType('mmengine.logging.history_buffer')

    class HistoryBuffer:
        def __init__(self):
            self._max_length = 10
            self._log_history = self._count_history = np.array([1.0])

    HistoryBuffer.__module__ = module.__name__
    HistoryBuffer.__qualname__ = 'HistoryBuffer'
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return HistoryBuffer()


def test_a_checkpoint_of_mmpretrain(name, trained, expected, tmp_path, monkeypatch):
    path = str(tmp_path / 'epoch_1.pth')
    with monkeypatch.context() as patch:
        for part in ('mmengine', 'mmengine.logging'):
            patch.setitem(sys.modules, part, types.ModuleType(part))
        content = dict(
            meta=dict(epoch=1, cfg="default_scope = 'mmpretrain'"),
            state_dict=trained[1].state_dict(),
            message_hub=dict(log_scalars={'train/loss': history_of_mmengine(patch)}),
        )
        torch.save(content, path)
    assert_close(load(name, path, num_classes=5)(IMAGES), expected, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match=r'HistoryBuffer'):
        timm.create_model(name, num_classes=5, checkpoint_path=path)


@pytest.mark.parametrize('kind', ['pth', 'safetensors', 'wrapped', 'ema'])
def test_files(name, trained, expected, tmp_path, kind):
    state = trained[1].state_dict()
    path = str(tmp_path / 'weights.pth')
    if kind == 'safetensors':
        path = str(tmp_path / 'weights.safetensors')
        save_file(state, path)
    elif kind == 'ema':  # of timm's script
        other = {k: v + 1 for k, v in state.items()}
        state = {f'module.{k}': v for k, v in state.items()}
        torch.save(dict(epoch=1, state_dict=other, state_dict_ema=state), path)
    else:
        torch.save(dict(state_dict=state) if kind == 'wrapped' else state, path)
    assert_close(load(name, path, num_classes=5)(IMAGES), expected, rtol=0, atol=0)
    model = timm.create_model(name, num_classes=5, checkpoint_path=path).eval()
    assert_close(model(IMAGES), expected, rtol=0, atol=0)


def test_a_file_of_timm_loads_in_our_classifier(name, expected, file, tmp_path):
    model = load(name, file, num_classes=5)
    assert 'state_dict' not in model.pretrained_cfg
    torch.save(model.state_dict(), tmp_path / 'timm.pth')
    ours = create_classifier(name, 5, pretrained=tmp_path / 'timm.pth').eval()
    assert_close(ours(IMAGES), expected, rtol=0, atol=0)


def test_a_folder_of_timm(name, expected, file, tmp_path):
    save_for_hf(load(name, file, num_classes=5), tmp_path / 'folder')
    model = timm.create_model(f'local-dir:{tmp_path}/folder', pretrained=True).eval()
    assert_close(model(IMAGES), expected, rtol=0, atol=0)


def test_a_state_dict_without_a_file(name, trained, expected):
    overlay = dict(state_dict=trained[1].state_dict())
    model = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=5
    )
    assert_close(model.eval()(IMAGES), expected, rtol=0, atol=0)


def test_a_file_of_a_backbone(name, trained, tmp_path):
    path = str(tmp_path / 'backbone.pth')
    torch.save(trained[1].backbone.state_dict(), path)
    model = load(name, path, num_classes=0)
    with torch.no_grad():
        features = trained[1].backbone(IMAGES)[-1]
        features = features.mean((2, 3)) if features.dim() == 4 else features
    assert_close(model(IMAGES), features)
    with pytest.raises(CheckpointMismatchError, match=r'2 missing:\s+head.fc.weight'):
        load(name, path)


def test_a_file_of_a_detector(name, trained, tmp_path):
    state = {k: v for k, v in trained[1].state_dict().items() if 'head' not in k}
    state |= {'neck.lateral_convs.0.conv.weight': torch.ones(1)}
    torch.save(dict(state_dict=state), tmp_path / 'detector.pth')
    (last,) = load(name, tmp_path / 'detector.pth', features_only=True, out_indices=1)(
        IMAGES
    )
    model = timm.create_model(name, num_classes=5)
    model.load_state_dict(trained[1].state_dict())
    (expected,) = model.eval().forward_intermediates(
        IMAGES, 1, norm=True, intermediates_only=True
    )
    assert_close(last, expected, rtol=0, atol=0)


def test_other_classes_and_channels(name, trained, file):
    model = load(name, file, num_classes=7, in_chans=1)
    state, ours = model.state_dict(), trained[1].state_dict()
    changed = {n for n in ours if state[n].shape != ours[n].shape}
    stem = f'{model.default_cfg["first_conv"]}.weight'
    assert changed == {stem, 'head.fc.weight', 'head.fc.bias'}
    assert_close(state[stem], ours[stem].sum(1, keepdim=True))
    assert all(torch.equal(state[n], ours[n]) for n in ours if n not in changed)
    assert load(name, file, num_classes=0)(IMAGES).shape == (1, model.num_features)
    four = load(name, file, num_classes=5, in_chans=4).state_dict()
    assert four[stem].shape[1] == 4
    assert torch.equal(four['head.fc.weight'], ours['head.fc.weight'])
    with pytest.raises(RuntimeError, match=r'size mismatch for head.fc.weight'):
        load(name, file)  # 1000 classes


def test_strictness(name, trained, tmp_path):
    state = dict(trained[1].state_dict())
    gone = next(n for n in state if n.endswith('mixer.in_proj.weight'))
    for change, match in (
        (lambda s: s.pop(gone), f'1 missing:\\s+{gone}'),
        (
            lambda s: s.update({'backbone.foo': torch.ones(1)}),
            r'unexpected:\s+backbone.foo',
        ),
        (lambda s: s.update({'head.norm.weight': torch.ones(1)}), r'head.norm.weight'),
    ):
        broken = dict(state)
        change(broken)
        torch.save(broken, tmp_path / 'broken.pth')
        for more in (
            dict(num_classes=5),
            dict(num_classes=7),
            dict(features_only=True),
        ):
            with pytest.raises(CheckpointMismatchError, match=match):
                load(name, tmp_path / 'broken.pth', **more)
    broken = state | {gone: torch.ones(2, 2)}
    torch.save(broken, tmp_path / 'broken.pth')
    with pytest.raises(RuntimeError, match=f'size mismatch for {gone}'):
        load(name, tmp_path / 'broken.pth', num_classes=7)


def test_wrong_files(name, tmp_path):
    with pytest.raises(InputError, match=r'nope.pth: no such checkpoint file'):
        load(name, 'nope.pth')
    (tmp_path / 'bad.pth').write_bytes(b'no checkpoint')
    with pytest.raises(InputError, match=r'bad.pth is truncated'):
        load(name, tmp_path / 'bad.pth')
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pth')
    with pytest.raises(
        CheckpointMismatchError, match=rf'linear.pth does not fit {name}'
    ):
        load(name, tmp_path / 'linear.pth')
    with pytest.raises(RuntimeError, match='No pretrained weights exist'):
        timm.create_model(name, pretrained=True)


def test_adaptors_and_output_norms_may_be_missing(tmp_path, caplog):
    torch.manual_seed(0)
    plain = create_classifier('vmamba_tiny', 2).eval()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    with caplog.at_level(logging.WARNING, 'mmadaptor'):
        adaptors = dict(spatial=dict(), temporal=dict())
        model = load(
            'vmamba_tiny', tmp_path / 'plain.pth', num_classes=2, adaptors=adaptors
        )
    assert re.search(r'lacks \d+ weights', caplog.text)
    with torch.no_grad():
        assert_close(model(IMAGES), plain(IMAGES), rtol=0, atol=0)
    caplog.clear()
    with caplog.at_level(logging.WARNING, 'mmadaptor'):
        load('vmamba_tiny', tmp_path / 'plain.pth', features_only=True)
    assert 'lacks 6 weights, such as backbone.norm0.bias' in caplog.text


# --- published files ---


def published(family, tmp_path, **arguments):
    shapes = (
        vmamba_shapes(96, (2, 2, 8, 2), **arguments)
        if family == 'vmamba'
        else (vim_shapes(192, 24, **arguments))
    )
    state = weights(shapes)
    path = str(tmp_path / f'{family}.pth')
    torch.save(dict(model={k: v.float() for k, v in state.items()}), path)
    return state, path


@pytest.mark.parametrize('by', ['overlay', 'checkpoint_path'])
def test_a_published_vmamba(tmp_path, by):
    state, path = published('vmamba', tmp_path, classes=3)
    arguments = dict(num_classes=3)
    if by == 'overlay':
        model = load('vmamba_tiny', path, **arguments)
    else:
        model = timm.create_model('vmamba_tiny', checkpoint_path=path, **arguments)
    logits = model.double().eval()(IMAGES.double())[0]
    state = {k: v.float().double() for k, v in state.items()}
    assert_close(logits, vmamba_logits(state, IMAGES[0].double()))


def test_a_published_vmamba_of_a_detector(tmp_path):
    state = weights(vmamba_shapes(96, (2, 2, 8, 2), dense=True))
    content = {f'backbone.{k}': v.float() for k, v in state.items()}
    torch.save(dict(state_dict=content), tmp_path / 'det.pth')
    model = load('vmamba_tiny', tmp_path / 'det.pth', features_only=True).double()
    state = {k: v.float().double() for k, v in state.items()}
    maps = vmamba(state, IMAGES[0].double())
    for i, (out, expected) in enumerate(zip(model(IMAGES.double()), maps)):
        norm = torch.nn.functional.layer_norm(
            expected.movedim(0, -1),
            expected.shape[:1],
            state[f'outnorm{i}.weight'],
            state[f'outnorm{i}.bias'],
        )
        assert_close(out[0], norm.movedim(-1, 0))


@pytest.mark.parametrize('by', ['overlay', 'checkpoint_path'])
def test_a_published_vim(tmp_path, by):
    state, path = published('vim', tmp_path, tokens=4, classes=3)
    arguments = dict(num_classes=3, img_size=32)
    if by == 'overlay':
        model = load('vim_tiny', path, **arguments)
    else:
        model = timm.create_model('vim_tiny', checkpoint_path=path, **arguments)
    logits = model.double().eval()(IMAGES.double())[0]
    state = {k: v.float().double() for k, v in state.items()}
    assert_close(logits, vim_logits(state, IMAGES[0].double()))


def test_positions_are_resized_to_img_size(tmp_path):
    _, path = published('vim', tmp_path, tokens=16, classes=3)
    small = load('vim_tiny', path, num_classes=3, img_size=64)
    large = load('vim_tiny', path, num_classes=3, img_size=(96, 64))
    assert large.backbone.grid == (6, 4)
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():  # positions are resized to the image in any case
        assert_close(large(images), small(images))


def test_positions_that_are_not_of_a_square_are_refused(tmp_path):
    path = tmp_path / 'wide.pth'
    wide = timm.create_model('vim_tiny', num_classes=3, img_size=(32, 48))
    torch.save(wide.state_dict(), path)
    assert load('vim_tiny', path, num_classes=3, img_size=(32, 48)).backbone.grid == (
        2,
        3,
    )
    with pytest.raises(CheckpointMismatchError, match=r'pos_embed: expected \(1, 197'):
        load('vim_tiny', path, num_classes=3)


def test_another_published_size_is_refused(tmp_path):
    _, path = published('vmamba', tmp_path, classes=3)
    with pytest.raises(CheckpointMismatchError, match='does not fit vmamba_small'):
        load('vmamba_small', path, num_classes=3)
