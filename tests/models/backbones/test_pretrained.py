# SPDX-License-Identifier: Apache-2.0
"""`Pretrained` is strict, except for adaptors and output norms."""

import pytest
import torch
from mmengine.model import PretrainedInit
from test_vmamba import SMALL

import mmadaptor.engine  # noqa: F401
from mmadaptor.checkpoints.strict import load_model
from mmadaptor.errors import CheckpointMismatchError
from mmadaptor.models import MambaAdaptor, Vim, VMamba


@pytest.fixture
def checkpoint(tmp_path):
    """Save a checkpoint of a classifier: one output norm, no adaptors, a head."""
    torch.manual_seed(1)
    backbone = VMamba(SMALL, out_indices=(3,))
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    state['head.fc.weight'] = torch.zeros(10, 128)
    path = tmp_path / 'pretrained.pth'
    torch.save(dict(state_dict=state, meta={}), path)
    return path, state


def built(path, backbone=MambaAdaptor, arch=SMALL, **arguments):
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = backbone(arch, init_cfg=init_cfg, **arguments)
    model.init_weights()
    return model


def test_adaptors_and_output_norms_may_be_missing(checkpoint):
    path, state = checkpoint
    loaded = built(path).state_dict()
    for key, value in state.items():
        if key.startswith('backbone.'):
            assert torch.equal(loaded[key.removeprefix('backbone.')], value)
    assert (loaded['stages.0.0.mixer.temporal.gamma'] == 0).all()
    assert (loaded['norm0.weight'] == 1).all()


def test_it_is_loaded_once_and_from_the_file_that_was_named(checkpoint):
    path, state = checkpoint
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = VMamba(SMALL, out_indices=(3,), init_cfg=init_cfg)
    init_cfg['checkpoint'] = 'another.pth'
    model.init_weights()
    assert torch.equal(model.norm3.bias, state['backbone.norm3.bias'])
    torch.nn.init.ones_(model.norm3.bias)
    model.init_weights()  # as mmengine's runner calls it after ours
    assert (model.norm3.bias == 1).all()


def test_what_is_missing_is_said(checkpoint, monkeypatch):
    said = []
    monkeypatch.setattr('mmadaptor.checkpoints.strict.warn', said.append)
    built(checkpoint[0], VMamba, out_indices=(3,))
    assert said == []
    built(checkpoint[0], VMamba)
    assert len(said) == 1 and 'lacks 6 weights, such as norm0.bias' in said[0]


@pytest.mark.parametrize(
    'init', [dict(type='mmengine.Pretrained'), dict(type=PretrainedInit)], ids=str
)
def test_it_is_strict_by_whatever_name(checkpoint, init):
    path, state = checkpoint
    state.pop('backbone.stages.1.0.mixer.A_log')
    torch.save(dict(state_dict=state), path)
    model = VMamba(
        SMALL, init_cfg=dict(checkpoint=str(path), prefix='backbone.', **init)
    )
    with pytest.raises(Exception, match=r'1 missing:\s+stages.1.0.mixer.A_log'):
        model.init_weights()


def test_trained_adaptors_are_never_left_over(tmp_path):
    both = MambaAdaptor(SMALL, out_indices=(3,))
    path = tmp_path / 'both.pth'
    torch.save(
        dict(state_dict={f'backbone.{k}': v for k, v in both.state_dict().items()}),
        path,
    )
    for model, adaptors in ((VMamba, None), (MambaAdaptor, dict(temporal=dict()))):
        with pytest.raises(Exception, match=r'unexpected:\s+stages.0.0.mixer.'):
            built(path, model, adaptors=adaptors)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda s: s.pop('backbone.stages.1.0.mixer.A_log'),
            r'1 missing:\s+stages.1.0.mixer.A_log',
        ),
        (
            lambda s: s.update({'backbone.extra': torch.ones(1)}),
            r'1 unexpected:\s+extra',
        ),
        (
            lambda s: s.update({'backbone.stages.0.0.mixer.D': torch.ones(4, 8)}),
            r'stages.0.0.mixer.D: expected \(4, 16\), got \(4, 8\)',
        ),
    ],
)
def test_what_does_not_fit_is_named(checkpoint, change, message):
    path, state = checkpoint
    change(state)
    torch.save(dict(state_dict=state), path)
    with pytest.raises(Exception, match=message):
        built(path)


def test_another_arch_is_named(checkpoint):
    with pytest.raises(Exception, match=r'expected \(.*\), got \('):
        built(checkpoint[0], VMamba, {**SMALL, 'embed_dims': 32})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Exception, match='nowhere.pth'):
        built(tmp_path / 'nowhere.pth')


@pytest.mark.parametrize('whole', [False, True], ids=['backbone', 'whole model'])
def test_vim_of_another_image_size_says_which_to_set(whole, tmp_path):
    small = dict(arch=dict(embed_dims=8, depth=1), patch_size=8)
    path = str(tmp_path / 'vim.pth')
    state = Vim(**small, img_size=32).state_dict()
    prefix = 'backbone.' if whole else ''
    torch.save({f'{prefix}{name}': value for name, value in state.items()}, path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix=prefix)
    with pytest.raises(CheckpointMismatchError, match='set `img_size`=32. Images') as e:
        if whole:
            model = torch.nn.ModuleDict(dict(backbone=Vim(**small, img_size=64)))
            load_model(model, torch.load(path), path)
        else:
            Vim(**small, img_size=64, init_cfg=init_cfg).init_weights()
    assert 'pos_embed: expected (1, 65, 8), got (1, 17, 8)' in str(e.value)
    model = Vim(**small, img_size=32, init_cfg=init_cfg)
    model.init_weights()
    assert model(torch.zeros(1, 3, 64, 64))[0].isfinite().all()


@pytest.mark.parametrize('shape', [(), (10,), (1, 17), (1, 17, 16)], ids=str)
def test_positions_of_another_form_have_no_hint(shape):
    assert Vim(dict(embed_dims=8, depth=1)).shape_hint('pos_embed', shape) == ''


def test_a_parameter_of_another_width_has_no_such_hint(tmp_path):
    path = str(tmp_path / 'vim.pth')
    torch.save(Vim(dict(embed_dims=8, depth=1), img_size=32).state_dict(), path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    with pytest.raises(CheckpointMismatchError) as e:
        Vim(dict(embed_dims=16, depth=1), img_size=32, init_cfg=init_cfg).init_weights()
    assert 'img_size' not in str(e.value)
