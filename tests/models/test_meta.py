# SPDX-License-Identifier: Apache-2.0
"""Models from the meta device are initialized as constructed ones."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mmadaptor.models import Classifier, Vim, VMamba
from mmadaptor.models.layers import VimBlock, VMambaBlock

STAGES = dict(embed_dims=64, depths=(1, 1), d_state=2, ssm_ratio=1.0)
BOTH = dict(temporal={}, spatial={})
KINDS = {
    'VMamba': lambda: Classifier(
        VMamba(STAGES, adaptors=BOTH, out_indices=(1,)), num_classes=10
    ),
    'balanced': lambda: VMamba(STAGES, out_indices=(1,), scan_init='balanced'),
    'Vim': lambda: Classifier(
        Vim(dict(embed_dims=64, depth=2), img_size=32, adaptors=BOTH), num_classes=0
    ),
}


def materialize(model):
    """Initialize a model from the meta device, as FSDP2's tutorial does."""
    model.to_empty(device='cpu')
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(math.nan)
    for module in model.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()


def check(model, expected):
    """Compare means and deviations, with five times their standard errors."""
    expected = dict(expected.named_parameters())
    for name, p in model.named_parameters():
        p = p.full_tensor() if hasattr(p, 'full_tensor') else p
        actual, value = p.detach(), expected[name].detach()
        if value.numel() == 1 or value.std() == 0 or 'temporal.offsets.bias' in name:
            torch.testing.assert_close(actual, value, msg=lambda m, n=name: f'{n}: {m}')
            continue
        error = 5 * value.std().item() / math.sqrt(value.numel())
        assert actual.std().item() == pytest.approx(value.std().item(), abs=error), name
        assert actual.mean().item() == pytest.approx(
            value.mean().item(), abs=2 * error
        ), name


@pytest.mark.parametrize('kind', KINDS)
def test_reset_of_each_module(kind):
    torch.manual_seed(0)
    with torch.device('meta'):
        model = KINDS[kind]()
    materialize(model)
    check(model, KINDS[kind]())


@pytest.mark.parametrize('kind', KINDS)
def test_copies_reset_themselves(kind):
    original = KINDS[kind]()
    saved = io.BytesIO()
    torch.save(original, saved)
    saved.seek(0)
    for model in (
        copy.deepcopy(original),
        pickle.loads(pickle.dumps(original)),
        torch.load(saved, weights_only=False),
    ):
        before = copy.deepcopy(original.state_dict())
        materialize(model)
        check(model, original)
        for name, value in original.state_dict().items():
            assert torch.equal(value, before[name]), name


@pytest.fixture
def process_group():
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', KINDS)
def test_sharded_by_fsdp(kind, process_group):
    torch.manual_seed(0)
    mesh = init_device_mesh('cpu', (1,))
    with torch.device('meta'):
        model = KINDS[kind]()
    for block in model.modules():
        if isinstance(block, VMambaBlock | VimBlock):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    materialize(model)
    check(model, KINDS[kind]())
    outputs = model(torch.randn(2, 3, 32, 32))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(y.square().sum() for y in outputs).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
