# SPDX-License-Identifier: Apache-2.0
"""What is decayed and at which rate, from what the layers declare."""

import importlib
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmadaptor.engine import OptimWrapperConstructor
from mmadaptor.engine.optim import check_clipping, layer_decay_of_toolbox
from mmadaptor.errors import InputError
from mmadaptor.models import MambaAdaptor, Vim

SMALL = dict(embed_dims=8, depths=(1, 2), d_state=1, ssm_ratio=1.0)


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(8, 2)


def settings(model, **paramwise):
    """Learning rate and decay by name; the base has 1 and 1."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='mmadaptor.OptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=1.0),
            paramwise_cfg=paramwise,
        ),
    )
    names = {p: n for n, p in model.named_parameters()}
    return {
        names[group['params'][0]]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
    }


@pytest.fixture
def vmamba():
    return Model(MambaAdaptor(SMALL, out_indices=(1,)))


def test_what_is_not_decayed(vmamba):
    found = settings(vmamba, norm_decay_mult=0.0)
    assert found.keys() == dict(vmamba.named_parameters()).keys()
    mixer = 'backbone.stages.1.0.mixer.'
    plain = {
        name.removeprefix(mixer)
        for name, (_, decay) in found.items()
        if name.startswith(mixer) and decay == 0
    }
    assert plain == {
        'dt_weight', 'dt_bias', 'A_log', 'D', 'temporal.gamma',
        'temporal.offsets.bias', 'temporal.coefficients.bias', 'spatial.alpha',
        'norm.weight', 'norm.bias',
    }  # fmt: skip
    assert found['head.bias'] == (1, 1)
    assert found['backbone.norm1.weight'] == (1, 0)
    assert {rate for rate, _ in found.values()} == {1}


def test_vims_embeddings_and_norms():
    model = Model(Vim(dict(embed_dims=8, depth=2), img_size=32))
    found = settings(model, norm_decay_mult=0.0)
    for name in ('cls_token', 'pos_embed', 'norm.weight', 'layers.0.norm.weight',
                 'layers.1.mixer.A_log', 'layers.1.mixer.D'):  # fmt: skip
        assert found[f'backbone.{name}'] == (1, 0), name
    assert found['backbone.layers.1.mixer.x_weight'] == (1, 1)
    # Norms are decayed unless the config says otherwise, as by mmengine.
    assert settings(model)['backbone.norm.weight'] == (1, 1)


def test_custom_keys_come_before_what_layers_declare(vmamba):
    found = settings(
        vmamba,
        adaptor_lr_mult=10.0,
        custom_keys={
            'A_log': dict(decay_mult=0.5),
            'dt_': dict(lr_mult=3.0),
            'spatial': dict(lr_mult=2.0),
        },
    )
    mixer = 'backbone.stages.0.0.mixer.'
    assert found[f'{mixer}A_log'] == (1, 0.5)
    assert found[f'{mixer}dt_bias'] == (3, 0)
    assert found[f'{mixer}spatial.alpha'] == (2, 0)
    assert found[f'{mixer}temporal.gamma'] == (10, 0)
    assert found[f'{mixer}temporal.offsets.weight'] == (10, 1)
    assert found[f'{mixer}in_proj.weight'] == (1, 1)


def test_of_several_custom_keys_the_longest_counts(vmamba):
    """As by mmengine: what a shorter one sets is not of this parameter."""
    keys = {'dt_': dict(lr_mult=3.0, decay_mult=0.5), 'mixer.dt_bias': dict()}
    found = settings(vmamba, custom_keys=keys)
    mixer = 'backbone.stages.0.0.mixer.'
    assert found[f'{mixer}dt_weight'] == (3, 0.5)
    assert found[f'{mixer}dt_bias'] == (1, 0)


def test_rates_multiply_those_of_mmengine(vmamba):
    found = settings(vmamba, bias_lr_mult=2.0, layer_decay_rate=0.5)
    assert found['backbone.downsample_layers.0.0.bias'][0] == 2 * 0.5**4
    assert found['head.bias'][0] == 2


def test_rates_by_depth_and_by_adaptor(vmamba):
    found = settings(vmamba, layer_decay_rate=0.5, adaptor_lr_mult=10.0)
    # Stem, three blocks, and what follows them.
    assert found['backbone.downsample_layers.0.0.weight'][0] == 0.5**4
    assert found['backbone.stages.0.0.mixer.in_proj.weight'][0] == 0.5**3
    assert found['backbone.downsample_layers.1.0.weight'][0] == 0.5**3
    assert found['backbone.stages.1.1.mixer.in_proj.weight'][0] == 0.5
    assert found['backbone.stages.1.1.mixer.spatial.alpha'][0] == 5
    assert found['backbone.norm1.weight'][0] == found['head.weight'][0] == 1
    with pytest.raises(InputError, match='`get_layer_depth`, got Linear'):
        settings(Model(nn.Linear(1, 1)), layer_decay_rate=0.5)


def test_rates_by_depth_of_vim():
    found = settings(
        Model(Vim(dict(embed_dims=8, depth=2), img_size=32)), layer_decay_rate=0.5
    )
    # Embeddings, two blocks, and what follows them.
    for name in ('cls_token', 'pos_embed', 'patch_embed.projection.weight'):
        assert found[f'backbone.{name}'][0] == 0.5**3
    assert found['backbone.layers.0.mixer.A_log'][0] == 0.5**2
    assert found['backbone.layers.1.norm.weight'][0] == 0.5
    assert found['backbone.norm.weight'][0] == found['head.weight'][0] == 1


def test_the_same_depths_for_mmpretrains_own_constructor():
    pytest.importorskip('mmpretrain')
    from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
    from mmpretrain.models import ImageClassifier

    init_default_scope('mmpretrain')
    model = ImageClassifier(
        backbone=dict(type='mmadaptor.Vim', arch=dict(embed_dims=8, depth=2)),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=8),
    )
    wrapper = LearningRateDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=1.0)),
        dict(layer_decay_rate=0.5),
    )(model)
    rates = {g['param_name']: g['lr'] for g in wrapper.optimizer.param_groups}
    ours = settings(model, layer_decay_rate=0.5)
    assert rates == {name: rate for name, (rate, _) in ours.items()}
    assert rates['backbone.cls_token'] == 0.125


STOCK = {
    'mmdet': 'mmdet.LearningRateDecayOptimizerConstructor',
    'mmseg': 'mmseg.LearningRateDecayOptimizerConstructor',
    'mmseg, older': 'mmseg.LayerDecayOptimizerConstructor',
}


@pytest.mark.parametrize('constructor', STOCK.values(), ids=STOCK)
@pytest.mark.parametrize('backbone', ['vmamba', 'vim'])
def test_the_constructors_of_mmdet_and_mmseg(constructor, backbone, vmamba):
    """By themselves they raise a bare NotImplementedError for other backbones."""
    importlib.import_module(f'{constructor.partition(".")[0]}.engine')
    model = vmamba
    if backbone == 'vim':
        model = Model(Vim(dict(embed_dims=8, depth=3), img_size=32))
    optimizer = dict(type='AdamW', lr=1.0, weight_decay=1.0)
    stock = dict(
        type='OptimWrapper',
        constructor=constructor,
        optimizer=optimizer,
        paramwise_cfg=dict(decay_rate=0.5, decay_type='layer_wise', num_layers=3),
    )
    wrapper = build_optim_wrapper(model, layer_decay_of_toolbox(stock, model))
    names = {p: n for n, p in model.named_parameters()}
    found = {names[g['params'][0]]: g for g in wrapper.optimizer.param_groups}
    assert found.keys() == set(names.values())
    expected = settings(model, layer_decay_rate=0.5)
    for name, group in found.items():
        assert group['lr'] == expected[name][0], name
        flat = group['params'][0].ndim == 1
        assert group['weight_decay'] == (0 if flat else expected[name][1]), name
    assert min(g['lr'] for g in found.values()) == 0.5**4
    stock['paramwise_cfg']['decay_type'] = 'stage_wise'
    with pytest.raises(InputError, match="decay_type='layer_wise' for (MambaA|Vim)"):
        layer_decay_of_toolbox(stock, model)


def test_other_constructors_and_backbones_are_left_alone(vmamba):
    stock = dict(constructor='mmdet.LearningRateDecayOptimizerConstructor')
    assert layer_decay_of_toolbox(stock, Model(nn.Linear(1, 1))) is stock
    in_parallel = nn.ModuleDict(dict(module=vmamba))
    with pytest.raises(InputError, match='must have `decay_rate`'):  # it is known
        layer_decay_of_toolbox(stock, in_parallel)
    for other in (dict(), dict(constructor='DefaultOptimWrapperConstructor'), None):
        assert layer_decay_of_toolbox(other, vmamba) is other


def test_shared_and_frozen_parameters():
    model = Model(
        MambaAdaptor(
            dict(embed_dims=8, depths=(3,), d_state=1, ssm_ratio=1.0),
            out_indices=(0,),
            adaptors=dict(temporal=dict(), share=True),
            trainable=['adaptors'],
        )
    )
    found = settings(model)
    adaptor = {n for n in found if '.temporal.' in n}
    assert len(adaptor) == 5 and found.keys() - adaptor == {'head.weight', 'head.bias'}


def test_the_log_has_a_line_for_each_kind(vmamba, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmadaptor.engine.optim.print_log', lambda text, *_: lines.append(text)
    )
    settings(vmamba, norm_decay_mult=0.0, adaptor_lr_mult=10.0)
    assert len(lines) == 4
    total = sum(p.numel() for p in vmamba.parameters())
    assert total == sum(
        int(line.split('(')[1].split(' ')[0].replace(',', '')) for line in lines
    )


def test_the_log_goes_on(vmamba):
    """mmengine's line for each parameter is muted, and nothing after it."""
    level = MMLogger.get_current_instance().level
    settings(vmamba)
    assert MMLogger.get_current_instance().level == level < logging.ERROR


def test_it_is_mmengines_otherwise():
    model = Model(nn.Linear(8, 8))
    wrapper = OptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=0.1)), dict(bias_lr_mult=2.0)
    )(model)
    assert [g['lr'] for g in wrapper.optimizer.param_groups] == [0.1, 0.2] * 2
    assert isinstance(wrapper.optimizer, torch.optim.SGD)


def test_clipping_is_checked_for_each_of_several_optimizers():
    parts = nn.Linear(2, 2), nn.Linear(2, 2)
    good, bad = (
        OptimWrapper(
            torch.optim.SGD(part.parameters(), lr=1), clip_grad=dict(arguments)
        )
        for part, arguments in zip(parts, (dict(max_norm=1), dict(norm=1)), strict=True)
    )
    check_clipping(OptimWrapperDict(a=good, b=good))
    with pytest.raises(TypeError, match='max_norm'):
        check_clipping(OptimWrapperDict(a=good, b=bad))
    del good.clip_grad_kwargs  # as of a wrapper that is not made by mmengine
    check_clipping(good)
