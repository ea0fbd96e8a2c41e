# SPDX-License-Identifier: Apache-2.0
"""Second and forward-mode derivatives of whole models, against the definitions.

The expected values are those of the same model whose ops are the definitions in plain
torch, as a submodule or as the function that a layer imported.
"""

import pytest
import torch
from test_mamba_adaptor import perturbed

from mmadaptor.models import MambaAdaptor, Vim, VMamba
from mmadaptor.models.layers import adaptor_s, adaptor_t
from mmadaptor.models.layers.op import Op
from mmadaptor.ops.cross_selective_scan import reference as cross
from mmadaptor.ops.dilated_depthwise import reference as dilated
from mmadaptor.ops.memory_readout import reference as readout
from mmadaptor.ops.memory_select import reference as select
from mmadaptor.ops.selective_scan import reference as scan

DEFINITIONS = dict(
    cross_selective_scan=cross.cross_selective_scan, selective_scan=scan.selective_scan
)
TINY = dict(embed_dims=8, depths=(1,), d_state=1, ssm_ratio=1.0)
BOTH = dict(temporal=dict(), spatial=dict())
MODELS = {
    'VMamba': lambda: VMamba(TINY, out_indices=(0,)),
    'MambaAdaptor': lambda: MambaAdaptor(TINY, out_indices=(0,)),
    'MambaAdaptor, two states': lambda: MambaAdaptor(
        dict(TINY, d_state=2), out_indices=(0,)
    ),
    'Vim with adaptors': lambda: Vim(
        dict(embed_dims=8, depth=1), img_size=32, patch_size=8, adaptors=BOTH
    ),
}


@pytest.fixture(params=MODELS)
def model(request):
    return perturbed(MODELS[request.param]()).double()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, 3, 12, 12, generator=generator, dtype=torch.float64)


def replace_ops(model, monkeypatch):
    """Let a model compute the definitions in plain torch."""
    for module in model.modules():
        if isinstance(module, Op) and module.function.__name__ in DEFINITIONS:
            module.function = DEFINITIONS[module.function.__name__]
    for layer, name, definition in (
        (adaptor_t, 'memory_readout', readout.memory_readout),
        (adaptor_t, 'memory_select', select.memory_select),
        (adaptor_t, 'cross_readout', cross.cross_readout),
        (adaptor_s, 'dilated_depthwise', dilated.dilated_depthwise),
    ):
        monkeypatch.setattr(layer, name, definition)


def penalty_gradients(model, images):
    """Return the gradients of a gradient penalty (WGAN-GP) by parameter."""
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        model(images)[0].square().sum(), images, create_graph=True
    )
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(penalty, parameters, allow_unused=True)


def test_a_gradient_penalty(model, images, monkeypatch):
    found = penalty_gradients(model, images)
    replace_ops(model, monkeypatch)
    expected = penalty_gradients(model, images)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    for name, actual, value in zip(names, found, expected):
        assert (actual is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(actual, value, msg=lambda m, n=name: f'{n}: {m}')
    assert sum(v.abs().sum() > 0 for v in expected if v is not None) > len(names) / 2


def test_forward_mode(model, images, monkeypatch):
    tangents = torch.ones_like(images)
    _, found = torch.func.jvp(lambda x: model(x)[0], (images,), (tangents,))
    replace_ops(model, monkeypatch)
    inputs = images.clone().requires_grad_()
    _, expected = torch.autograd.functional.jvp(lambda x: model(x)[0], inputs, tangents)
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0
