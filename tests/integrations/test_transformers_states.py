# SPDX-License-Identifier: Apache-2.0
"""The hidden states of the models in transformers: values, threads and compilation."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel

from mmadaptor.integrations.transformers import (
    MambaAdaptorBackbone,
    MambaAdaptorConfig,
    MambaAdaptorForImageClassification,
    MambaAdaptorModel,
)
from mmadaptor.models import create_backbone

KINDS = MambaAdaptorModel, MambaAdaptorForImageClassification, MambaAdaptorBackbone


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))


def build(name, kind=MambaAdaptorModel, depth=2):
    """A model in evaluation mode; of a Vim the first blocks alone."""
    chosen = dict(out_indices=[0, depth - 1]) if kind is MambaAdaptorBackbone else {}
    config = MambaAdaptorConfig(architecture=name, image_size=(64, 48), **chosen)
    model = kind(config).eval().requires_grad_(False)
    if name == 'vim_tiny':
        model.backbone.layers = model.backbone.layers[:depth]
        model.backbone.out_indices = tuple(chosen.get('out_indices', [depth - 1]))
    return model


def tensors(output):
    """All tensors of an output, in order."""
    parts = (p if isinstance(p, tuple) else (p,) for p in output.values())
    return [tensor for part in parts for tensor in part]


def test_hidden_states_and_features(images):
    model = build('mamba_adaptor_b0')
    output = model(images, output_hidden_states=True)
    shapes = [tuple(state.shape) for state in output.hidden_states]
    assert shapes == [(2, 32 * 2**i, 16 // 2**i, -(-12 // 2**i)) for i in range(4)]
    last = model.backbone.norm3(output.hidden_states[-1].permute(0, 2, 3, 1))
    assert torch.equal(output.last_hidden_state, last)
    assert torch.equal(output.pooler_output, last.mean(dim=(2, 3)))
    assert model(images).hidden_states is None
    assert isinstance(model(images, return_dict=False), tuple)


def test_features_of_a_vim(images):
    config = MambaAdaptorConfig(architecture='vim_tiny', image_size=(64, 48))
    model = AutoModel.from_config(config).eval()
    output = model(images, output_hidden_states=True)
    assert len(output.hidden_states) == 24
    assert torch.equal(output.pooler_output, model.backbone(images)[0])
    maps = create_backbone('vim_tiny', img_size=(64, 48), out_type='featmap').eval()
    maps.load_state_dict(model.backbone.state_dict())
    assert torch.equal(output.last_hidden_state, maps(images)[0])


NAMES = pytest.mark.parametrize('name', ['mamba_adaptor_b0', 'vim_tiny'])


@NAMES
@pytest.mark.parametrize('kind', KINDS)
def test_hidden_states_change_no_output(kind, name, images):
    model, calls = build(name, kind), []
    if name == 'vim_tiny':  # what Grad-CAM tools read
        model.backbone.patch_map.register_forward_hook(lambda *_: calls.append(1))
    plain = model(images)
    full = model(images, output_hidden_states=True)
    assert full.hidden_states and calls in ([], [1, 1])
    for ours, theirs in zip(tensors(plain), tensors(full), strict=False):
        assert torch.equal(ours, theirs)


@NAMES
def test_the_states_of_chosen_stages(name, images):
    model = build(name, MambaAdaptorBackbone)
    output = model(images, output_hidden_states=True)
    assert len(output.hidden_states) == 2
    for expected, got in zip(model.backbone(images), output.feature_maps, strict=True):
        assert torch.equal(expected, got)
    model.config.output_hidden_states = True
    for a, b in zip(model(images).hidden_states, output.hidden_states, strict=True):
        assert torch.equal(a, b)


@NAMES
@pytest.mark.parametrize('states', [False, True])
def test_threads_get_their_own_results(states, name):
    model = build(name, depth=4)
    batches = torch.randn(4, 1, 3, 64, 48).unbind()

    def run(batch):
        return tensors(model(batch, output_hidden_states=states))

    expected = [run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(run, batches * 5)]
    for ours, theirs in zip(found, expected * 5, strict=True):
        for tensor, alone in zip(ours, theirs, strict=True):
            assert_close(tensor, alone)


@NAMES
@pytest.mark.parametrize(
    'kind, states', [(MambaAdaptorModel, False), *((kind, True) for kind in KINDS)]
)
def test_compile_has_no_graph_break(kind, states, name, images):
    torch.compiler.reset()
    model = build(name, kind)
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    ours = tensors(compiled(images, output_hidden_states=states))
    theirs = tensors(model(images, output_hidden_states=states))
    for tensor, eager in zip(ours, theirs, strict=True):
        assert_close(tensor, eager)
