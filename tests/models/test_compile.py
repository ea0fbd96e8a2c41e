# SPDX-License-Identifier: Apache-2.0
"""torch.compile, torch.export and traces of whole backbones, compared with eager mode."""

import io

import pytest
import torch
from test_mamba_adaptor import perturbed
from torch._dynamo.testing import CompileCounterWithBackend

from mmadaptor.models import MambaAdaptor, Vim, VMamba
from mmadaptor.models.layers import linear

TINY = dict(embed_dims=16, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0)
BOTH = dict(temporal=dict(), spatial=dict())
VIM = dict(arch=dict(embed_dims=16, depth=2), img_size=64, patch_size=8)
SIZES = ((1, 3, 64, 64), (3, 3, 40, 72), (2, 3, 45, 37))
GRAPHS = {
    'VMamba': lambda: VMamba(TINY),
    'MambaAdaptor': lambda: MambaAdaptor(TINY),
    'two states': lambda: MambaAdaptor(dict(TINY, d_state=2)),
    'Vim': lambda: Vim(**VIM, out_type='featmap'),
    'class token of Vim': lambda: Vim(**VIM),
    'Vim with adaptors': lambda: Vim(**VIM, out_type='featmap', adaptors=BOTH),
}


@pytest.fixture(autouse=True)
def forget_what_was_compiled():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def without_onednn(monkeypatch):
    """Eager linear layers are oneDNN's; those of a graph are F.linear, of other bits."""
    monkeypatch.setattr(linear, '_ONEDNN', None)


def step(function, model, images):
    """Return the maps, and the gradients of images and parameters by name."""
    images = images.clone().requires_grad_()
    maps = function(images)
    generator = torch.Generator().manual_seed(1)
    loss = sum((m * torch.randn(m.shape, generator=generator)).sum() for m in maps)
    names, parameters = zip(*model.named_parameters())
    grads = torch.autograd.grad(loss, [images, *parameters])
    return maps, dict(zip(['images', *names], grads))


def test_compiled_equals_eager(monkeypatch, tmp_path):
    """Inductor compiles one graph; the maps and every gradient are equal."""
    # A killed test would leave a truncated library in the cache of the user.
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    model = perturbed(MambaAdaptor(TINY)).train()
    images = torch.randn(2, 3, 50, 64)
    maps, grads = step(model, model, images)
    compiled, compiled_grads = step(torch.compile(model, fullgraph=True), model, images)
    torch.testing.assert_close(compiled, maps, rtol=1e-4, atol=1e-5)
    for name, expected in grads.items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            compiled_grads[name],
            expected,
            rtol=0,
            atol=1e-4 * scale,
            msg=lambda text, name=name: f'gradient of {name}: {text}',
        )


# The floats of a model are constants. As symbols, they make torch trace and compile
# everything a second time.
@torch._dynamo.config.patch(specialize_float=True)
@pytest.mark.parametrize('kind', [kind for kind in GRAPHS if kind != 'two states'])
def test_one_graph_serves_every_size(kind, without_onednn):
    model = perturbed(GRAPHS[kind]()).train()
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for size in ((50, 64), (101, 97)):
        images = torch.randn(2, 3, *size)
        maps, grads = step(model, model, images)
        compiled_maps, compiled_grads = step(compiled, model, images)
        graphs.append(counter.frame_count)
        # A compiled Vim adds in another order.
        rounding = 1e-4 if 'Vim' in kind else 0
        grads, compiled_grads = list(grads.values()), list(compiled_grads.values())
        for expected, found in zip([*maps, *grads], [*compiled_maps, *compiled_grads]):
            scale = expected.abs().max().item()
            torch.testing.assert_close(found, expected, rtol=0, atol=rounding * scale)
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize('backbone', ['b0', dict(TINY, d_state=2)], ids=str)
def test_exported_with_sizes_that_change(backbone, without_onednn):
    """From 33 pixels on; with fewer, the last map has one row or column."""
    model = perturbed(MambaAdaptor(backbone))
    sides = {
        2: torch.export.Dim('height', min=33),
        3: torch.export.Dim('width', min=33),
    }
    program = torch.export.export(
        model, (torch.randn(2, 3, 50, 64),), dynamic_shapes=[sides]
    )
    for size in ((50, 64), (37, 101), (224, 96)):
        images = torch.randn(2, 3, *size)
        assert all(map(torch.equal, program.module()(images), model(images)))


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('kind', GRAPHS)
@pytest.mark.parametrize('traced_at', [(1, 3, 64, 64), (2, 3, 48, 80)], ids=str)
def test_a_trace_serves_other_batches_and_sizes(kind, traced_at):
    """Traced at the image size of the positions, and at another one."""
    model = perturbed(GRAPHS[kind]())
    traced = torch.jit.trace(model, torch.randn(*traced_at), check_trace=False)
    for size in SIZES:
        images = torch.randn(*size)
        for actual, expected in zip(traced(images), model(images), strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('kind', ['Vim', 'class token of Vim', 'Vim with adaptors'])
def test_vim_exported_with_batches_and_sizes_that_change(kind):
    model = perturbed(GRAPHS[kind]())
    sides = {
        0: torch.export.Dim('batch'),
        2: torch.export.Dim('height', min=17),
        3: torch.export.Dim('width', min=17),
    }
    program = torch.export.export(
        model, (torch.randn(2, 3, 50, 64),), dynamic_shapes=[sides]
    )
    for size in SIZES:
        images = torch.randn(*size)
        for actual, expected in zip(program.module()(images), model(images)):
            torch.testing.assert_close(actual, expected)


def test_why_inductor_cannot_compile_dynamic_sizes_with_gradients():
    """The smallest form of pytorch/pytorch#185510, which docs/derivatives.md tells of.

    If it compiles, torch has the fix: then a backbone can be compiled with
    `dynamic=True`, which docs/derivatives.md should say and a test here should check.
    """
    conv = torch.nn.Conv2d(3, 4, 3)
    compiled = torch.compile(lambda x: conv(x.permute(0, 3, 1, 2)), dynamic=True)
    with pytest.raises(torch._inductor.exc.InductorError, match='truth value of Rel'):
        compiled(torch.randn(2, 8, 9, 3))


@pytest.mark.parametrize(
    'model',
    [
        MambaAdaptor(TINY),
        VMamba(TINY),
        Vim(dict(embed_dims=32, depth=1), img_size=32, out_type='featmap'),
    ],
    ids=['MambaAdaptor', 'VMamba', 'Vim'],
)
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_onnx_export_ends_in_a_sentence(model):
    """Compilation stays one graph when torch.onnx has been imported."""
    images = torch.zeros(1, 3, 64, 64)
    with pytest.raises(RuntimeError) as error:
        torch.onnx.export(model.eval(), images, io.BytesIO(), dynamo=False)
    assert str(error.value).startswith('torch.onnx.export has no operators for the')
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(images), model(images))
