# SPDX-License-Identifier: Apache-2.0
"""Published state dicts: the same outputs, every name accounted for."""

import fnmatch
import json
import pathlib
import runpy
import sys
import types
from collections import OrderedDict
from unittest.mock import patch

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
from safetensors.torch import load_file

from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.checkpoints.strict import load_strict
from mmadaptor.errors import InputError
from mmadaptor.models import Vim, VMamba
from mmadaptor.models.published import Converter

ROOT = pathlib.Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'convert_checkpoint.py'
SHAPES = ROOT / 'tests' / 'models' / 'backbones'
VMAMBA = dict(dims=8, depths=(1, 2, 1, 1), states=2, ratio=2, classes=5)
VIM = dict(dims=8, depth=3, tokens=9, patch=8, states=3, classes=5)


def published(name):
    text = (SHAPES / f'{name}_state_dict_shapes.json').read_text()
    return {k: tuple(v) for k, v in json.loads(text).items()}


def loaded(backbone, ours):
    """A backbone with our state dict's weights, and the classifier's."""
    parts = ((name.partition('.'), value) for name, value in ours.items())
    state = {name: value for (root, _, name), value in parts if root == 'backbone'}
    load_strict(backbone.double().eval(), state, 'converted')
    return backbone, ours.get('head.fc.weight'), ours.get('head.fc.bias')


def test_the_references_layouts_are_the_published_ones():
    assert vmamba_shapes(96, (2, 2, 8, 2)) == published('vmamba_t')
    assert vim_shapes(192, 24) == published('vim_ti')


@pytest.mark.parametrize('change', [{}, dict(states=1, ratio=1)], ids=str)
def test_vmambas_logits(change):
    state = weights(vmamba_shapes(**{**VMAMBA, **change}))
    converter = Converter('vmamba', state, published=True)
    model, weight, bias = loaded(
        VMamba(**converter.arguments, out_indices=(3,)), converter.convert()
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
    ours = converter.convert()
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
        converter.convert()
    state = weights(vim_shapes(**{**VIM, 'tokens': tokens, 'states': 16}))
    converter = Converter('vim', state, published=True)
    model, weight, bias = loaded(Vim(**arguments), converter.convert())
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
    dense = vmamba_shapes(96, (2, 2, 8, 2), dense=True)
    dense = {f'backbone.{name}': shape for name, shape in dense.items()}
    dense['neck.fpn_convs.0.conv.weight'] = (4, 4, 3, 3)
    dense['roi_head.bbox_head.fc_cls.bias'] = (81,)
    plain = {name: published(name) for name in ('vmamba_t', 'vim_ti')}
    return plain | {'vmamba_t dense': dense}


@pytest.mark.parametrize('name', layouts())
def test_round_trip_of_the_full_layouts(name, tmp_path, monkeypatch, capsys):
    """By the tool, both ways: every tensor comes back, bit for bit."""
    family = name.split('_')[0]
    state = {k: torch.randn(v) for k, v in layouts()[name].items()}
    classes = dict(classes=('wall', 'sky'), palette=[[1, 2, 3], [4, 5, 6]])
    content = dict(model=state, epoch=3, meta=dict(dataset_meta=classes))
    source, target = tmp_path / 'published.pth', tmp_path / 'ours.pth'
    torch.save(content, source)
    ours = convert(monkeypatch, '--from', family, source, target)
    shown = capsys.readouterr().out
    assert "converting 'model'; also in the file: epoch." in shown
    assert "'arch': 'tiny'" in shown
    assert f'{len(state)} tensors read' in shown
    assert ours['meta']['dataset_meta'] == classes
    backbone = Vim if family == 'vim' else VMamba
    norms = {} if 'dense' in name or family == 'vim' else dict(out_indices=(3,))
    init = dict(type='Pretrained', checkpoint=str(target), prefix='backbone.')
    model = backbone(**ours['meta']['arguments'], **norms, init_cfg=init)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(ours['state_dict'][f'backbone.{key}'], value)
    back = convert(monkeypatch, '--to', family, target, tmp_path / 'back.pth')
    same(back['state_dict' if 'dense' in name else 'model'], state)


def test_safetensors_both_ways(tmp_path, monkeypatch):
    state = weights(vmamba_shapes(**VMAMBA))
    source, target = tmp_path / 'published.pth', tmp_path / 'ours.safetensors'
    torch.save(dict(model=state), source)
    ours = convert(monkeypatch, '--from', 'vmamba', source, target)
    init = dict(type='Pretrained', checkpoint=str(target), prefix='backbone.')
    model = VMamba(**ours['meta']['arguments'], out_indices=(3,), init_cfg=init)
    model.double().init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(ours['state_dict'][f'backbone.{key}'], value)
    convert(monkeypatch, '--to', 'vmamba', target, tmp_path / 'back.safetensors')
    same(load_file(tmp_path / 'back.safetensors'), state)


def same(got, expected):
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def convert(monkeypatch, *arguments):
    """Runs the tool in this process, and returns the content of the new file."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')
    return read_checkpoint(str(arguments[-1]))


def remove(pattern):
    return lambda state: [state.pop(name) for name in fnmatch.filter(state, pattern)]


def put(name, *shape):
    return lambda state: state.update({name: torch.ones(shape)})


BLOCK = 'layers.0.blocks.0.op'
VMAMBA_ERRORS = [
    (remove('layers.1.blocks.1.op.Ds'), r'1 missing:\s+layers.1.blocks.1.op.Ds'),
    (put('extra', 1), r'1 unexpected:\s+extra'),
    (
        put('patch_embed.5.weight', 8, 4, 3),
        r'patch_embed.5.weight: expected \(8, 4, 3, 3\), got \(8, 4, 3\)',
    ),
    (
        put(f'{BLOCK}.in_proj.weight', 32, 8),
        r'op.in_proj.weight: expected \(16, 8\), got \(32, 8\)',
    ),
    (
        put('layers.1.blocks.0.op.A_logs', 2, 128),  # as many numbers, transposed
        r'op.A_logs: expected \(128, 2\), got \(2, 128\)',
    ),
    (
        remove('patch_embed.7.weight'),
        'expected patch_embed.7.weight, got patch_embed.0.weight',
    ),
    (remove('layers.2.blocks.*'), r'blocks in four stages, got \(1, 2, 0, 1\)'),
    (
        put(f'{BLOCK}.A_logs'),
        r'op.A_logs: expected 2 dimensions .* no empty one, got \(\)',
    ),
    (put('patch_embed.7.weight', 0), r'embed.7.weight: expected 1 .*, got \(0,\)'),
    (put('classifier.head.weight', 5), r'head.weight: expected 2 .*, got \(5,\)'),
    (
        put('classifier.head.weight', 5, 32),
        r'classifier.head.weight: expected \(5, 64\), got \(5, 32\)',
    ),
]
VIM_ERRORS = [
    (put('pos_embed', 10), r'pos_embed: expected 3 dimensions or more .*, got \(10,\)'),
    (remove('layers.2.mixer.D_b'), r'1 missing:\s+layers.2.mixer.D_b'),
    (put('pos_embed', 1, 12, 8), 'pos_embed: expected a square .* and one, got 12'),
    (put('pos_embed', 1, 1, 8), 'expected a square of positions and one, got 1'),
    (
        lambda state: [
            put('pos_embed', 1, 730, 8)(state),
            put('patch_embed.proj.weight', 8, 3, 16, 16)(state),
        ],
        r'pos_embed: .*27 x 27, as Vim\+ has for 224 px in steps of 8',
    ),
    (remove('head.weight'), 'expected head.weight'),
    (remove('layers.*'), r'expected blocks \(layers.0, ...\), got none'),
]


@pytest.mark.parametrize(
    'family, change, message',
    [('vmamba', *case) for case in VMAMBA_ERRORS]
    + [('vim', *case) for case in VIM_ERRORS],
)
def test_what_is_not_as_published_is_named(family, change, message):
    vmamba = family == 'vmamba'
    shapes = vmamba_shapes(**VMAMBA) if vmamba else vim_shapes(**{**VIM, 'states': 16})
    state = {k: torch.zeros(v) for k, v in shapes.items()}
    change(state)
    with pytest.raises(InputError, match=message):
        Converter(family, state, published=True).convert()


def test_a_projection_may_be_a_convolution():
    state = weights(vmamba_shapes(**VMAMBA))
    plain = Converter('vmamba', dict(state), published=True).convert()
    name = 'layers.0.blocks.0.op.in_proj.weight'
    state[name] = state[name][..., None, None]
    same(Converter('vmamba', state, published=True).convert(), plain)


def ours(**arguments):
    backbone = VMamba(
        dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0), **arguments
    )
    return {f'backbone.{k}': v for k, v in backbone.state_dict().items()}


@pytest.mark.parametrize(
    'state, message',
    [
        (ours(adaptors=dict(spatial={})), r'stages.0.0.mixer.spatial.alpha'),
        (ours(out_indices=(0, 1, 3)), r'missing:\s+backbone.norm2.weight'),
        (
            ours() | {'backbone.norm2.weight': torch.ones(3)},
            r'backbone.norm2.weight: expected \(32,\), got \(3,\)',
        ),
        ({'stages.0.0.mixer.A_log': torch.ones(4, 8, 1)}, "names with 'backbone.'"),
        (
            {'backbone.cls_token': torch.ones(1, 1, 8)},
            'expected backbone.downsample_layers.0.4.weight, got backbone.cls_token',
        ),
    ],
    ids=['adaptors', 'missing', 'misshapen', 'bare', 'vim'],
)
def test_what_is_not_ours_is_named(state, message):
    with pytest.raises(InputError, match=message):
        Converter('vmamba', state, published=False).convert()


@pytest.mark.parametrize('family', ['vmamba', 'vim'])
def test_the_other_family_is_refused(family):
    shapes = vim_shapes(**VIM) if family == 'vmamba' else vmamba_shapes(**VMAMBA)
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(InputError, match=f'not a state dict of {family}'):
        Converter(family, state, published=True)


@pytest.mark.parametrize('published, head', [(True, 'head'), (False, 'head.fc')])
def test_detectors_with_vim_are_refused(published, head):
    state = {'backbone.cls_token': torch.ones(1, 1, 8)}
    with pytest.raises(InputError, match=f'only classifiers .* expected {head}.weight'):
        Converter('vim', state, published)


class Planted:
    def __reduce__(self):
        return print, ('this ran',)


def test_a_pickle_with_code_is_refused(tmp_path, monkeypatch, capsys):
    torch.save(dict(model={}, config=Planted()), tmp_path / 'planted.pth')
    said = refused(monkeypatch, tmp_path / 'planted.pth', tmp_path / 'ours.pth')
    assert 'print' in said and 'reads weights only' in said
    assert 'this ran' not in capsys.readouterr().out
    assert not (tmp_path / 'ours.pth').exists()


def refused(monkeypatch, *arguments, family='vmamba'):
    return refusal(monkeypatch, 'convert_checkpoint', '--from', family, *arguments)


class CfgNode(dict):
    """yacs's, as its 0.1.8 pickles it: items, and attributes as the state."""

    def __init__(self, items):
        super().__init__(items)
        self.__dict__.update(
            __immutable__=True, __deprecated_keys__=set(), __renamed_keys__={}
        )


def test_a_training_by_vmambas_own_code(tmp_path, monkeypatch):
    """It saves the config, a yacs node, beside the weights."""
    state = weights(vmamba_shapes(**VMAMBA))
    source, target = tmp_path / 'trained.pth', tmp_path / 'ours.pth'
    node = CfgNode(dict(MODEL=CfgNode(dict(EMBED_DIM=8, DEPTHS=[1, 2])), AMP=True))
    monkeypatch.setattr(CfgNode, '__module__', 'yacs.config')
    yacs = types.ModuleType('yacs.config')
    yacs.CfgNode = CfgNode
    with patch.dict(
        sys.modules, {'yacs': types.ModuleType('yacs'), yacs.__name__: yacs}
    ):
        torch.save(dict(model=state, config=node, epoch=3), source)
    got = convert(monkeypatch, '--from=vmamba', source, target)['state_dict']
    same(got, Converter('vmamba', state, published=True).convert())
    config = read_checkpoint(str(source))['config']
    assert config == dict(MODEL=dict(EMBED_DIM=8, DEPTHS=[1, 2]), AMP=True)
    assert type(config) is type(config['MODEL']) is OrderedDict


class Experiment:
    """An object of a user's own training."""


def test_a_file_with_other_objects_is_refused_and_the_way_out_works(
    tmp_path, monkeypatch
):
    state = weights(vmamba_shapes(**VMAMBA))
    source, target = tmp_path / 'trained.pth', tmp_path / 'ours.pth'
    monkeypatch.setattr(Experiment, '__module__', 'my.training')
    training = types.ModuleType('my.training')
    training.Experiment = Experiment
    modules = {'my': types.ModuleType('my'), 'my.training': training}
    installed = patch.dict(sys.modules, modules)
    with installed:
        torch.save(dict(model=state, config=Experiment()), source)
    assert "['ema']" in refused(monkeypatch, source, target, '--key=ema')
    said = refused(monkeypatch, source, target)
    assert f'{source} holds a pickled object (my.training.Experiment)' in said
    assert 'This runs any code in the' in said and not target.exists()
    lines = [line.strip() for line in said.splitlines() if line.startswith('    ')]
    assert len(lines) == 2
    with installed:
        exec('\n'.join(lines), {})
    source = tmp_path / 'trained.tensors.pth'
    got = convert(monkeypatch, '--from=vmamba', source, target)['state_dict']
    same(got, Converter('vmamba', state, published=True).convert())


@pytest.mark.parametrize('wrapper', ['', 'module.'])
@pytest.mark.parametrize(
    'key', ['', 'model', 'state_dict', 'model_ema', 'state_dict_ema']
)
def test_wraps_of_published_files(key, wrapper, tmp_path, monkeypatch, capsys):
    state = weights(vmamba_shapes(**VMAMBA))
    named = {f'{wrapper}{name}': value for name, value in state.items()}
    source = tmp_path / 'published.pth'
    torch.save({key: named, 'epoch': 3} if key else named, source)
    got = convert(monkeypatch, '--from=vmamba', source, tmp_path / 'ours.pth')
    same(got['state_dict'], Converter('vmamba', state, published=True).convert())
    said = f'{source}: converting {key!r}; also in the file: epoch.'
    shown = capsys.readouterr().out
    assert said in shown if key else 'converting' not in shown


@pytest.mark.parametrize('chosen', ['', 'model_ema', 'other'])
def test_a_key_among_several(chosen, tmp_path, monkeypatch, capsys):
    keys = ['other', 'model_ema', 'model']
    states = {key: weights(vmamba_shapes(**VMAMBA), i) for i, key in enumerate(keys)}
    torch.save(states, tmp_path / 'published.pth')
    options = ['--from=vmamba', *[f'--key={chosen}'] * bool(chosen)]
    paths = tmp_path / 'published.pth', tmp_path / 'ours.pth'
    got = convert(monkeypatch, *options, *paths)['state_dict']
    used = chosen or 'model'
    same(got, Converter('vmamba', states[used], published=True).convert())
    others = ', '.join(key for key in keys if key != used)
    shown = capsys.readouterr().out
    assert f'converting {used!r}; also in the file: {others}.' in shown


def test_names_that_are_wrapped_in_part_are_refused(tmp_path, monkeypatch):
    state = weights(vmamba_shapes(**VMAMBA))
    state['module.patch_embed.0.bias'] = torch.ones(4)
    torch.save(dict(model=state), tmp_path / 'half.pth')
    said = refused(monkeypatch, tmp_path / 'half.pth', tmp_path / 'ours.pth')
    assert f'{tmp_path}/half.pth: the state dict does not fit VMamba' in said
    assert '1 unexpected:\n    module.patch_embed.0.bias' in said


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(model=dict(epoch=3)), " under 'model', got model"),
        (dict(model={3: torch.ones(2)}), " under 'model', got model"),
        (dict(weights={'fc.bias': torch.ones(2)}), ', bare or under state_dict, model'),
        ({}, ', bare or under'),
    ],
    ids=str,
)
def test_files_without_tensors_are_named(content, message, tmp_path, monkeypatch):
    path = tmp_path / 'published.pth'
    torch.save(content, path)
    said = refused(monkeypatch, path, tmp_path / 'ours.pth')
    assert f'{path}: expected tensors by name{message}' in said
    said = refused(monkeypatch, path, tmp_path / 'ours.pth', '--key', 'ema')
    assert f"{path}: expected tensors by name under 'ema', got" in said
    said = refused(monkeypatch, tmp_path / 'nowhere.pth', tmp_path / 'ours.pth')
    assert 'nowhere.pth: no such checkpoint file' in said


def test_the_file_of_another_family_is_named(tmp_path, monkeypatch):
    torch.save(dict(model={'fc.weight': torch.ones(2)}), tmp_path / 'resnet.pth')
    said = refused(monkeypatch, tmp_path / 'resnet.pth', tmp_path / 'ours.pth')
    assert f'{tmp_path}/resnet.pth: not a state dict of vmamba' in said
    assert 'expected patch_embed.7.weight, got fc.weight' in said


def test_the_source_is_never_written_over(tmp_path, monkeypatch):
    path = tmp_path / 'vim.pth'
    path.write_bytes(b'published')
    assert 'give another name' in refused(monkeypatch, path, path, family='vim')
    assert path.read_bytes() == b'published'
