# SPDX-License-Identifier: Apache-2.0
"""Published state dicts: the same outputs, every name accounted for."""

import json
import pathlib

import pytest
import torch
import torch.nn.functional as F
from helpers.jobs import refusal
from helpers.reference_models import (
    layer_norm,
    vim,
    vim_logits,
    vim_shapes,
    vmamba,
    vmamba_logits,
    vmamba_shapes,
    weights,
)

from mmadaptor.checkpoints.published import Converter
from mmadaptor.errors import InputError
from mmadaptor.models import Vim, VMamba

SHAPES = pathlib.Path(__file__).parents[1] / 'models' / 'backbones'
VMAMBA = dict(dims=8, depths=(1, 2, 1, 1), states=2, ratio=2, classes=5)
VIM = dict(dims=8, depth=3, tokens=9, patch=8, states=3, classes=5)


def published(name):
    text = (SHAPES / f'{name}_state_dict_shapes.json').read_text()
    return {k: tuple(v) for k, v in json.loads(text).items()}


def loaded(backbone, ours):
    """A backbone with our state dict's weights, and the classifier's."""
    state = {
        k.removeprefix('backbone.'): v
        for k, v in ours.items()
        if k.startswith('backbone.')
    }
    backbone.double().eval().load_state_dict(state)
    return backbone, ours.get('head.fc.weight'), ours.get('head.fc.bias')


def test_the_references_layouts_are_the_published_ones():
    assert vmamba_shapes(96, (2, 2, 8, 2)) == published('vmamba_t')
    assert vim_shapes(192, 24) == published('vim_ti')


@pytest.mark.parametrize('change', [{}, dict(states=1, ratio=1)], ids=str)
def test_vmambas_logits(change):
    state = weights(vmamba_shapes(**{**VMAMBA, **change}))
    converter = Converter('vmamba', state, published=True)
    model, weight, bias = loaded(
        VMamba(**converter.arguments, out_indices=(3,)), converter.to_ours()
    )
    images = torch.randn(2, 3, 40, 56, dtype=torch.float64)
    with torch.no_grad():
        got = F.linear(model(images)[0].mean(dim=(2, 3)), weight, bias)
    expected = torch.stack([vmamba_logits(state, image) for image in images])
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_vmambas_dense_maps():
    state = weights(vmamba_shapes(**VMAMBA, dense=True))
    heads = {'neck.lateral_convs.0.conv.weight': torch.randn(4, 8, 1, 1)}
    converter = Converter(
        'vmamba', {f'backbone.{k}': v for k, v in state.items()} | heads, published=True
    )
    ours = converter.to_ours()
    assert ours['neck.lateral_convs.0.conv.weight'] is next(iter(heads.values()))
    model, *_ = loaded(VMamba(**converter.arguments), ours)
    image = torch.randn(3, 33, 48, dtype=torch.float64)
    with torch.no_grad():
        maps = model(image[None])
    for i, (got, before) in enumerate(zip(maps, vmamba(state, image))):
        torch.testing.assert_close(
            got[0], layer_norm(before, state, f'outnorm{i}'), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize('tokens', [9, 16])
def test_vims_logits_and_map(tokens):
    state = weights(vim_shapes(**{**VIM, 'tokens': tokens}))
    converter = Converter('vim', state, published=True)
    # The number of states is Vim's own and no argument.
    arguments = converter.arguments
    side = arguments['img_size']
    with pytest.raises(InputError, match='A_log: expected'):
        converter.to_ours()
    state = weights(vim_shapes(**{**VIM, 'tokens': tokens, 'states': 16}))
    converter = Converter('vim', state, published=True)
    model, weight, bias = loaded(Vim(**arguments), converter.to_ours())
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        got = F.linear(model(images)[-1], weight, bias)
        model.out_type = 'featmap'
        maps = model(images)[-1]
    for image, logits, patches in zip(images, got, maps):
        torch.testing.assert_close(
            logits, vim_logits(state, image), rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(
            patches.flatten(1).T, vim(state, image)[1], rtol=1e-9, atol=1e-9
        )


def layouts():
    dense = {
        f'backbone.{k}': v
        for k, v in vmamba_shapes(96, (2, 2, 8, 2), dense=True).items()
    }
    dense['neck.fpn_convs.0.conv.weight'] = (4, 4, 3, 3)
    dense['roi_head.bbox_head.fc_cls.bias'] = (81,)
    return {
        'vmamba_t': published('vmamba_t'),
        'vim_ti': published('vim_ti'),
        'vmamba_t dense': dense,
    }


@pytest.mark.parametrize('name', layouts())
def test_round_trip_of_the_full_layouts(name, tmp_path, monkeypatch, capsys):
    """By the tool, both ways: every tensor comes back, bit for bit."""
    family = name.split('_')[0]
    state = {k: torch.randn(v) for k, v in layouts()[name].items()}
    classes = dict(classes=('wall', 'sky'), palette=[[1, 2, 3], [4, 5, 6]])
    torch.save(
        dict(model=state, epoch=3, meta=dict(dataset_meta=classes)),
        tmp_path / 'published.pth',
    )
    convert(
        monkeypatch, '--from', family, tmp_path / 'published.pth', tmp_path / 'ours.pth'
    )
    shown = capsys.readouterr().out
    assert "'arch': 'tiny'" in shown and 'leaving out epoch' in shown
    assert f'{len(state)} tensors read' in shown
    ours = torch.load(tmp_path / 'ours.pth', weights_only=True)
    assert ours['meta']['dataset_meta'] == classes
    backbone = Vim if family == 'vim' else VMamba
    norms = {} if 'dense' in name or family == 'vim' else dict(out_indices=(3,))
    model = backbone(
        **ours['meta']['arguments'],
        **norms,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'ours.pth'), prefix='backbone.'
        ),
    )
    model.init_weights()
    assert all(
        torch.equal(ours['state_dict'][f'backbone.{k}'], v)
        for k, v in model.state_dict().items()
    )
    convert(monkeypatch, '--to', family, tmp_path / 'ours.pth', tmp_path / 'back.pth')
    back = torch.load(tmp_path / 'back.pth', weights_only=True)
    back = back['state_dict' if 'dense' in name else 'model']
    assert set(back) == set(state)
    assert all(torch.equal(back[k], v) for k, v in state.items())


def convert(monkeypatch, *arguments):
    """Runs the tool in this process."""
    import runpy
    import sys

    path = pathlib.Path(__file__).parents[2] / 'tools' / 'convert_checkpoint.py'
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    runpy.run_path(str(path), run_name='__main__')


def remove(name):
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    'family, change, message',
    [
        (
            'vmamba',
            remove('layers.1.blocks.1.op.Ds'),
            r'1 missing:\s+layers.1.blocks.1.op.Ds',
        ),
        ('vmamba', lambda s: s.update(extra=torch.ones(1)), r'1 unexpected:\s+extra'),
        (
            'vmamba',
            lambda s: s.update({'patch_embed.5.weight': torch.ones(8, 4, 3)}),
            r'patch_embed.5.weight: expected \(8, 4, 3, 3\), got \(8, 4, 3\)',
        ),
        (
            'vmamba',
            lambda s: s.update(
                {'layers.0.blocks.0.op.in_proj.weight': torch.ones(32, 8)}
            ),
            r'op.in_proj.weight: expected \(16, 8\), got \(32, 8\)',
        ),
        (
            'vmamba',
            remove('patch_embed.7.weight'),
            r'expected patch_embed.7.weight or .*, got patch_embed.0.weight',
        ),
        (
            'vmamba',
            lambda s: [s.pop(k) for k in list(s) if 'layers.2.b' in k],
            r'blocks in four stages, got \(1, 2, 0, 1\)',
        ),
        (
            'vmamba',
            lambda s: s.update({'layers.0.blocks.0.op.A_logs': torch.ones(())}),
            r'op.A_logs: expected 2 axes or more and no empty one, got \(\)',
        ),
        (
            'vmamba',
            lambda s: s.update({'patch_embed.7.weight': torch.ones(0)}),
            r'patch_embed.7.weight: expected 1 axes or more .*, got \(0,\)',
        ),
        (
            'vmamba',
            lambda s: s.update({'classifier.head.weight': torch.ones(5)}),
            r'classifier.head.weight: expected 2 axes or more .*, got \(5,\)',
        ),
        (
            'vim',
            lambda s: s.update(pos_embed=torch.ones(10)),
            r'pos_embed: expected 3 axes or more .*, got \(10,\)',
        ),
        ('vim', remove('layers.2.mixer.D_b'), r'1 missing:\s+layers.2.mixer.D_b'),
        (
            'vim',
            lambda s: s.update(pos_embed=torch.ones(1, 12, 8)),
            'pos_embed: expected a square of positions and one, got 12',
        ),
        (
            'vim',
            lambda s: s.update(
                {
                    'pos_embed': torch.ones(1, 730, 8),
                    'patch_embed.proj.weight': torch.ones(8, 3, 16, 16),
                }
            ),
            'pos_embed: .*27 x 27, those of 224 px in steps of 8',
        ),
        ('vim', remove('head.weight'), 'expected head.weight'),
        (
            'vim',
            lambda s: [s.pop(k) for k in list(s) if k.startswith('layers.')],
            'Expected blocks, layers.0 and on, got none',
        ),
    ],
)
def test_what_is_not_as_published_is_named(family, change, message):
    shapes = (
        vmamba_shapes(**VMAMBA)
        if family == 'vmamba'
        else vim_shapes(**{**VIM, 'states': 16})
    )
    state = {k: torch.zeros(v) for k, v in shapes.items()}
    change(state)
    with pytest.raises(InputError, match=message):
        Converter(family, state, published=True).to_ours()


def test_a_projection_may_be_a_convolution():
    state = weights(vmamba_shapes(**VMAMBA))
    plain = Converter('vmamba', dict(state), published=True).to_ours()
    name = 'layers.0.blocks.0.op.in_proj.weight'
    state[name] = state[name][..., None, None]
    converted = Converter('vmamba', state, published=True).to_ours()
    assert all(torch.equal(converted[k], plain[k]) for k in plain)


def test_adaptors_have_no_published_name():
    state = {
        f'backbone.{k}': v
        for k, v in VMamba(
            dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0),
            adaptors=dict(spatial={}),
        )
        .state_dict()
        .items()
    }
    with pytest.raises(InputError, match=r'stages.0.0.mixer.spatial.alpha'):
        Converter('vmamba', state, published=False).to_published()


def test_the_other_family_is_refused():
    state = {k: torch.zeros(v) for k, v in vim_shapes(**VIM).items()}
    with pytest.raises(InputError, match='no state dict of that family'):
        Converter('vmamba', state, published=True)


class Planted:
    def __reduce__(self):
        return print, ('this ran',)


def test_a_pickle_with_code_is_refused(tmp_path, monkeypatch, capsys):
    torch.save(dict(model={}, config=Planted()), tmp_path / 'planted.pth')
    said = refusal(
        monkeypatch,
        'convert_checkpoint',
        '--from',
        'vmamba',
        tmp_path / 'planted.pth',
        tmp_path / 'ours.pth',
    )
    assert 'print' in said and 'reads weights only' in said
    assert 'this ran' not in capsys.readouterr().out
    assert not (tmp_path / 'ours.pth').exists()


def test_files_without_tensors_are_named(tmp_path, monkeypatch):
    torch.save(dict(model=dict(epoch=3)), tmp_path / 'numbers.pth')
    torch.save(dict(model={3: torch.ones(2)}), tmp_path / 'numbered.pth')
    for name, message in (
        ('numbers.pth', 'expected tensors by name'),
        ('numbered.pth', 'expected tensors by name'),
        ('nowhere.pth', 'nowhere.pth cannot be read'),
    ):
        assert message in refusal(
            monkeypatch,
            'convert_checkpoint',
            '--from',
            'vim',
            tmp_path / name,
            tmp_path / 'ours.pth',
        )


def test_the_file_of_another_family_is_named(tmp_path, monkeypatch):
    torch.save(dict(model={'fc.weight': torch.ones(2)}), tmp_path / 'resnet.pth')
    said = refusal(
        monkeypatch,
        'convert_checkpoint',
        '--from',
        'vmamba',
        tmp_path / 'resnet.pth',
        tmp_path / 'ours.pth',
    )
    assert f'{tmp_path}/resnet.pth: This is no state dict of that family' in said


def test_the_source_is_never_written_over(tmp_path, monkeypatch):
    path = tmp_path / 'vim.pth'
    path.write_bytes(b'published')
    assert 'give another name' in refusal(
        monkeypatch, 'convert_checkpoint', '--from', 'vim', path, path
    )
    assert path.read_bytes() == b'published'
