# SPDX-License-Identifier: Apache-2.0
"""A CUDA graph can capture inference. Requires only torch and pytest, like test_cuda.py."""

import pathlib
import re

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmadaptor.models import MambaAdaptor, Vim, VMamba

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'cuda.md'
TINY = dict(embed_dims=16, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0)
STATIC = dict(temporal=dict(static=True), spatial=dict())
BOTH = dict(temporal=dict(), spatial=dict())
VIM = dict(arch=dict(embed_dims=16, depth=2), img_size=64, patch_size=8)
BACKBONES = {
    'VMamba': lambda: VMamba(TINY),
    'MambaAdaptor': lambda: MambaAdaptor(TINY),
    'two states': lambda: MambaAdaptor(dict(TINY, d_state=2)),
    'static places': lambda: MambaAdaptor(TINY, adaptors=STATIC),
    'Vim': lambda: Vim(**VIM, out_type='featmap', adaptors=BOTH),
    'class token of Vim': lambda: Vim(**VIM),
}


class OnTheGPU(TorchDispatchMode):
    """Refuses tensors on the host: a graph cannot capture copies of pageable memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != 'cuda':
                raise AssertionError(f'{func} has a tensor on {leaf.device}')
        return result


def run_without_data(build, size=(1, 3, 64, 64)):
    """Run a model on fake tensors on a GPU, of which there need be none.

    Fake tensors have no values, so that reading one, for which the host waits for the
    GPU, is an error.
    """
    with FakeTensorMode(), torch.device('cuda'), torch.inference_mode():
        model, images = build().eval(), torch.empty(size)
        with OnTheGPU():
            return model(images)


@pytest.mark.parametrize('size', [(1, 3, 64, 64), (2, 3, 45, 70)], ids=str)
@pytest.mark.parametrize('kind', BACKBONES)
def test_the_host_neither_waits_nor_copies(kind, size):
    maps = run_without_data(BACKBONES[kind], size)
    assert all(m.device.type == 'cuda' and len(m) == size[0] for m in maps)


class Waits(torch.nn.Module):
    def forward(self, x):
        return x * x.sum().item()


class Copies(torch.nn.Module):
    def forward(self, x):
        return x + torch.ones(64, device='cpu').to(x.device)


def test_waiting_and_copying_are_found():
    with pytest.raises(DataDependentOutputException):
        run_without_data(Waits)
    with pytest.raises(AssertionError, match='has a tensor on cpu'):
        run_without_data(Copies)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=str)
def test_the_graph_of_the_page(dtype):
    """b2 at batch 1, replayed for other images, gives the bits of a call."""
    (block,) = re.findall(
        r'^```python\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert 'dtype = None' in block
    names = {}
    exec(block.replace('dtype = None', f'dtype = {dtype}'), names)
    infer, images, maps = (names[n] for n in ('infer', 'images', 'maps'))
    before = [m.clone() for m in maps]
    images.copy_(torch.rand_like(images))
    expected = infer()
    names['graph'].replay()
    for new, old, one in zip(maps, before, expected, strict=True):
        assert torch.equal(new, one) and not torch.equal(new, old)
