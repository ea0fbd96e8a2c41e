# SPDX-License-Identifier: Apache-2.0
"""VMamba: published sizes, stages and arguments."""

import json
import math
import pathlib
from collections import Counter

import pytest
import torch

from mmadaptor.models import VMamba
from mmadaptor.registry import MODELS

SMALL = dict(embed_dims=16, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0)
PUBLISHED = pathlib.Path(__file__).parent / 'vmamba_t_state_dict_shapes.json'


def numbers(model):
    return sum(p.numel() for p in model.parameters())


def with_head(model, classes=1000):
    """Count the parameters, including a linear classifier on the last map."""
    return numbers(model) + (model.norm3.weight.numel() + 1) * classes


def test_tiny_has_the_published_parameters():
    """The tensors are those of the published file, up to a reshape."""
    model = VMamba('tiny', out_indices=(3,))
    assert with_head(model) == 30_249_064
    published = {
        k: v
        for k, v in json.loads(PUBLISHED.read_text()).items()
        if not k.startswith('classifier.head')
    }
    assert Counter(math.prod(shape) for shape in published.values()) == Counter(
        p.numel() for p in model.state_dict().values()
    )


@pytest.mark.parametrize('arch, millions', [('small', 50), ('base', 89)])
def test_larger_sizes(arch, millions):
    with torch.device('meta'):
        assert round(with_head(VMamba(arch, out_indices=(3,))) / 1e6) == millions


@pytest.mark.parametrize('size', [(64, 64), (45, 70), (1, 1), (33, 5)], ids=str)
def test_any_size(size):
    maps = VMamba(SMALL)(torch.randn(2, 3, *size))
    for i, m in enumerate(maps):
        assert m.shape == (2, 16 * 2**i, *(math.ceil(s / 2 ** (i + 2)) for s in size))
        assert m.isfinite().all() and m.is_contiguous()


def test_any_number_of_stages():
    maps = VMamba({**SMALL, 'depths': (2, 1)}, out_indices=(1,))(
        torch.randn(1, 3, 16, 16)
    )
    assert [m.shape for m in maps] == [(1, 32, 2, 2)]


def test_images_of_a_batch_are_independent():
    model, images = VMamba(SMALL).eval(), torch.randn(3, 3, 32, 40)
    for i, image in enumerate(images):
        for whole, alone in zip(model(images), model(image[None])):
            torch.testing.assert_close(whole[i : i + 1], alone)


def test_out_indices_choose_normalised_maps():
    model = VMamba(SMALL, out_indices=(1, 3)).eval()
    names = [n for n, _ in model.named_children()]
    assert names == ['downsample_layers', 'stages', 'norm1', 'norm3']
    images = torch.randn(1, 3, 32, 32)
    first, second = model(images)
    assert first.shape[1] == 32 and second.shape[1] == 128
    assert first.mean(dim=1).abs().max() < 1e-5
    every = VMamba(SMALL).eval()
    every.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(every(images)[1], first)


def test_stages_that_no_output_needs_are_not_run():
    model = VMamba(SMALL, out_indices=(0, 1)).train()
    model.stages[2].register_forward_pre_hook(lambda *_: pytest.fail('it ran'))
    sum(m.sum() for m in model(torch.randn(1, 3, 32, 32))).backward()
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learns == {n for n, p in model.named_parameters() if p.grad is not None}
    assert {n.split('.')[1] for n in learns if n.startswith('stages')} == {'0', '1'}


@pytest.mark.parametrize('stages', [-1, 0, 2, 4])
def test_frozen_stages(stages):
    model = VMamba(SMALL, frozen_stages=stages, drop_path_rate=0.5).train()
    parts = [
        model.downsample_layers[0],
        model.stages[0],
        model.downsample_layers[1],
        model.stages[1],
        model.downsample_layers[2],
        model.stages[2],
        model.downsample_layers[3],
        model.stages[3],
    ]
    frozen = 0 if stages < 0 else max(1, 2 * stages)
    for i, part in enumerate(parts):
        trains = {p.requires_grad for p in part.parameters()}
        assert trains == {i >= frozen}
        assert part.training == (i >= frozen)


def test_drop_path_grows_from_block_to_block():
    model = VMamba({**SMALL, 'depths': (1, 1, 2, 1)}, drop_path_rate=0.2)
    rates = [b.drop_path.drop_prob for stage in model.stages for b in stage]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_recomputing_changes_nothing():
    # Not one image: torch 2.14.1's convolution of a single window has a backward pass
    # that differs from call to call with two threads.
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = VMamba(SMALL, with_cp=with_cp)
        sum(m.square().mean() for m in model(torch.ones(2, 3, 32, 32))).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = VMamba(
        SMALL,
        adaptors=dict(temporal=dict(gamma_init=1.0), spatial=dict(alpha_init=1.0)),
    )
    loss = sum(
        (m * torch.randn_like(m)).sum() for m in model(torch.randn(2, 3, 64, 64))
    )
    loss.backward()
    still = [
        n
        for n, p in model.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert still == []


def test_it_is_found_from_mmdet_by_scope():
    model = MODELS.build(dict(type='mmadaptor.VMamba', arch=dict(SMALL)))
    assert isinstance(model, VMamba)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(drop_path_rate=1.0), '`drop_path_rate` must be 0 or more.*got 1.0'),
        (dict(arch='huge'), r"`arch` of VMamba must be one of .*got 'huge'"),
        (dict(arch=dict(embed_dims=8)), r"`arch` as a dict must have.*got \['embed"),
        (
            dict(arch={**SMALL, 'depths': (1, 0)}),
            r'`depths` must be a .* integers of 1 or more, one per stage, got \(1, 0\)',
        ),
        (dict(arch={**SMALL, 'depths': ()}), r'`depths` must be.*got \(\)'),
        (
            dict(arch={**SMALL, 'depths': (1, 1)}),
            r'`out_indices` must be .* different indices from -2 to 1, got \(0, 1, 2, 3\)',
        ),
        (dict(scan_init='even'), r"`scan_init` must be one of .*got 'even'"),
        (
            dict(out_indices=(4,)),
            r'`out_indices` must be .* different indices from -4 to 3, got \(4,\)',
        ),
        (dict(out_indices=()), r'`out_indices` must be one or more .*got \(\)'),
        (dict(out_indices=4), '`out_indices` must be .* from -4 to 3, got 4'),
        (dict(out_indices=(-1, 3)), r'different indices from -4 to 3, got \(-1, 3\)'),
        (dict(out_indices=(1, 1)), r'different indices from -4 to 3, got \(1, 1\)'),
        (dict(arch=None), '`arch` as a dict must have the keys .*got None'),
        (dict(arch={**SMALL, 'depths': 2}), '`depths` must be a sequence .*got 2'),
        (dict(arch={**SMALL, 'd_state': 0}), '`d_state` of `arch` must be an .*got 0'),
        (dict(adaptors={}), '`adaptors` must have a dict as .*got {}'),
        (
            dict(adaptors=dict(spatial={}, blocks=[[], [], [], []])),
            'must name at least one block',
        ),
        (
            dict(adaptors=dict(spatial={}, blocks=[None, [], [], []])),
            '`blocks` of `adaptors` must be 4 lists',
        ),
        (dict(adaptors=dict(spatial=dict(dilations=3))), '`dilations` must .*got 3'),
        (
            dict(adaptors=dict(spatial=dict(alpha_init=float('nan')))),
            '`alpha_init` must be finite, got nan',
        ),
        (
            dict(adaptors=dict(temporal=dict(granularities=2))),
            '`granularities` must be 2 finite numbers.*got 2',
        ),
        (
            dict(adaptors=dict(temporal=dict(gamma_init=float('inf')))),
            '`gamma_init` must be finite, got inf',
        ),
        (
            dict(frozen_stages=5),
            '`frozen_stages` must be an integer from -1 to 4, got 5',
        ),
        (
            dict(norm_cfg=dict(type='BN')),
            "`norm_cfg` must be a norm over the last .*'BN'",
        ),
        (dict(adaptors=dict(memory={})), '`adaptors` may only have the keys'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VMamba(**arguments)


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match='depth'):
        VMamba(SMALL, depth=3)
