# SPDX-License-Identifier: Apache-2.0
"""Trainable, frozen and shared parameters."""

import pytest
import torch
from test_vmamba import SMALL
from torch import nn

from mmadaptor.models import Vim, VMamba
from mmadaptor.models.layers import AdaptorS, AdaptorT
from mmadaptor.models.tuning import train_only

BOTH = dict(temporal={}, spatial={})
DEEP = {**SMALL, 'depths': (1, 1, 2, 1)}


def trainable(model):
    return {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    'backbone, arguments',
    [
        (VMamba, dict(arch=SMALL)),
        (Vim, dict(arch=dict(embed_dims=16, depth=2), img_size=32)),
    ],
)
def test_parts(backbone, arguments):
    def of(*parts):
        return trainable(backbone(**arguments, adaptors=BOTH, trainable=parts))

    every = {n for n, _ in backbone(**arguments, adaptors=BOTH).named_parameters()}
    assert trainable(backbone(**arguments, adaptors=BOTH)) == every
    assert of() == set()
    adaptors = {n for n in every if '.temporal.' in n or '.spatial.' in n}
    assert adaptors and of('adaptors') == adaptors
    norms = {
        n
        for n in every
        if 'norm' in n
        or 'downsample_layers.0.1' in n
        or 'downsample_layers.0.4' in n
        or any(f'downsample_layers.{i}.1' in n for i in (1, 2, 3))
    }
    assert of('norms') == norms
    assert of('norms', 'adaptors') == norms | adaptors
    biases = {n for n in every if n.endswith('bias')}
    assert any('dt_bias' in n for n in biases)
    assert of('biases') == biases


def test_norms_of_a_backbone_of_ones_own():
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)
    )
    train_only(backbone, ['norms'])
    assert trainable(backbone) == {
        '1.weight', '1.bias', '2.weight', '2.bias', '3.weight',
    }  # fmt: skip


def test_patterns():
    model = VMamba(SMALL, trainable=[r'mixer\.(A_log|D)$', 'norms'])
    names = {n for n, _ in model.named_parameters()}
    chosen = {n for n in names if n.endswith(('.A_log', '.D'))}
    norms = trainable(VMamba(SMALL, trainable=['norms']))
    assert len(chosen) == 2 * sum(SMALL['depths'])
    assert trainable(model) == chosen | norms


def test_frozen_parts_stay_in_evaluation_mode():
    model = VMamba(
        SMALL,
        drop_path_rate=0.5,
        adaptors=BOTH,
        norm_cfg=dict(type='LN'),
        trainable=['adaptors'],
    ).train()
    block = model.stages[3][0]
    assert block.mixer.temporal.training and block.mixer.spatial.training
    assert not block.drop_path.training and not block.mlp.training
    assert not block.norm1.training and not model.downsample_layers.training
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(model(images), model.eval()(images)):
        assert torch.equal(a, b)
    assert not VMamba(SMALL, trainable=[]).train().training


@pytest.mark.parametrize(
    'parts, drops',
    [
        (['.*'], True),
        (['norms'], True),
        (['adaptors', 'biases'], True),
        ([r'stages\.3.*mixer'], True),
        (['adaptors'], False),
        (['norm3'], False),
        ([r'stages\.2.*mixer'], False),
        ([], False),
    ],
    ids=str,
)
def test_drop_path_stays_on_in_blocks_that_train_more_than_adaptors(parts, drops):
    model = VMamba(SMALL, drop_path_rate=0.5, adaptors=BOTH, trainable=parts)
    block = model.train().stages[3][0]
    assert block.drop_path.training == drops
    x = torch.randn(64, 2, 2, block.norm1.normalized_shape[0])
    assert torch.equal(block(x), block(x)) != drops
    assert not any(m.training for m in model.eval().modules())


@pytest.mark.parametrize('frozen_stages', [1, 2])
def test_drop_path_of_frozen_stages_is_off(frozen_stages):
    model = Vim(
        dict(embed_dims=16, depth=2),
        frozen_stages=frozen_stages,
        drop_path_rate=0.5,
        trainable=['.*'],
    ).train()
    assert [layer.drop_path.training for layer in model.layers] == [
        i >= frozen_stages for i in range(2)
    ]


def test_shared_with_a_block_that_is_not_run_adaptors_stay_frozen():
    model = Vim(
        dict(embed_dims=16, depth=3),
        out_indices=(0,),
        frozen_stages=1,
        adaptors={**BOTH, 'share': True},
    )
    assert trainable(model) == set()


def test_only_adaptors_get_gradients_and_learn():
    torch.manual_seed(0)
    model = VMamba(SMALL, adaptors=BOTH, trainable=['adaptors'])
    sum(m.square().mean() for m in model(torch.randn(1, 3, 64, 64))).backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == trainable(model)


def test_sharing_by_width():
    model = VMamba(DEEP, adaptors={**BOTH, 'share': True})
    first, second = model.stages[2]
    assert first.mixer.temporal is second.mixer.temporal
    assert first.mixer.spatial is second.mixer.spatial
    assert model.stages[1][0].mixer.temporal.channels == 32
    kinds = [type(m) for m in model.modules() if isinstance(m, (AdaptorT, AdaptorS))]
    assert kinds.count(AdaptorT) == kinds.count(AdaptorS) == 4
    assert set(model.state_dict()) == set(VMamba(DEEP, adaptors=BOTH).state_dict())


def test_sharing_across_unequal_widths_is_named():
    with pytest.raises(
        ValueError,
        match=(
            r'stages.1.0.mixer.temporal: expected 16 channels as in '
            r'stages.0.0.mixer.temporal, got 32'
        ),
    ):
        VMamba(SMALL, adaptors={**BOTH, 'share': 'all'})
    model = Vim(dict(embed_dims=16, depth=3), adaptors={**BOTH, 'share': 'all'})
    assert len({id(b.mixer.temporal) for b in model.layers}) == 1


def test_shared_with_a_frozen_block_adaptors_train():
    model = Vim(
        dict(embed_dims=16, depth=3),
        frozen_stages=1,
        adaptors={**BOTH, 'share': True},
        trainable=['adaptors'],
    )
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert names and all('.temporal.' in n or '.spatial.' in n for n in names)
    assert model.layers[0].mixer.temporal.gamma.requires_grad


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            dict(trainable=['heads']),
            r"must contain some of \['adaptors'.* as 'norm3.bias', got 'heads'",
        ),
        (dict(trainable=['(']), r"contains '\(', which is not a regular expression: "),
        (dict(trainable=[1]), r'must be a list of values from .*got \[1\]'),
        (dict(trainable='norms'), r"must be a list.*got 'norms'"),
        (dict(trainable=True), '`trainable` must be a list.*got True'),
        (
            dict(trainable=['adaptors'], adaptors=BOTH, frozen_stages=4),
            r"`trainable` is \['adaptors'\], but `frozen_stages` and `out_indices` freeze",
        ),
        (
            dict(trainable=['adaptors']),
            "contains 'adaptors', but VMamba has no adaptors",
        ),
        (dict(adaptors={**BOTH, 'share': 'some'}), r"`share`.*got 'some'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VMamba(SMALL, **arguments)
