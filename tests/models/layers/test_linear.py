# SPDX-License-Identifier: Apache-2.0
"""The linear layer equals that of torch for every implementation."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from mmadaptor.models.layers import linear as module
from mmadaptor.models.layers.linear import apply_linear, linear


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def gradients(function, x, layer):
    y = function(x, layer.weight, layer.bias)
    parameters = [p for p in (x, layer.weight, layer.bias) if p is not None]
    return y, *torch.autograd.grad((y * y).sum(), parameters)


@pytest.fixture
def products(monkeypatch):
    """Return the calls of oneDNN's product."""
    calls = []
    if not module._ONEDNN:
        pytest.skip('torch without oneDNN')

    def product(*arguments):
        calls.append(arguments)
        return torch.ops.mkldnn._linear_pointwise(*arguments)

    monkeypatch.setattr(module, '_ONEDNN', product)
    return calls


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    'shape',
    [(2, 5, 7, 6), (1, 1, 1, 6), (2, 3, 4, 4, 6), (0, 3, 4, 6), (2, 9, 6), (3, 6)],
    ids=str,
)
def test_it_is_a_linear_layer(shape, dtype, bias):
    torch.manual_seed(0)
    layer = nn.Linear(6, 5, bias).to(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    for actual, expected in zip(
        gradients(linear, x, layer), gradients(F.linear, x, layer), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert linear(x, layer.weight, layer.bias).is_contiguous()


def test_strides_and_autocast():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    x = torch.randn(2, 6, 5, 7).permute(0, 2, 3, 1)
    torch.testing.assert_close(
        apply_linear(layer, x),
        F.linear(x, layer.weight, layer.bias),
        rtol=1e-5,
        atol=1e-5,
    )
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = apply_linear(layer, x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=2e-2, atol=2e-2)


def test_second_derivatives():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 2), torch.randn(2, 4, 3, requires_grad=True)

    def second(function):
        y = (function(x, layer.weight, layer.bias) ** 3).sum()
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad((first**2).sum(), (x, *layer.parameters()))

    for actual, expected in zip(second(linear), second(F.linear), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_sum_and_of_a_part():
    """Gradients that are expanded, and layers of which only a part is trained."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(2, 3, 6, requires_grad=True)
    layer.weight.requires_grad_(False)
    for function in (linear, F.linear):
        grads = torch.autograd.grad(
            function(x, layer.weight, layer.bias).sum(), (x, layer.bias)
        )
        torch.testing.assert_close(grads[0], layer.weight.sum(0).expand(2, 3, 6))
        torch.testing.assert_close(grads[1], torch.full((5,), 6.0))


@pytest.mark.parametrize('shape', [(4, 6), (2, 3, 6), (2, 8, 9, 6)], ids=str)
def test_batched_gradients(shape):
    """As torch.autograd.functional.jacobian(vectorize=True) computes them."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(shape, requires_grad=True)
    y = linear(x, layer.weight, layer.bias)
    inputs, incoming = (x, *layer.parameters()), torch.randn(3, *y.shape)
    batched = torch.autograd.grad(
        y, inputs, incoming, is_grads_batched=True, retain_graph=True
    )
    single = [torch.autograd.grad(y, inputs, g, retain_graph=True) for g in incoming]
    for actual, *expected in zip(batched, *single, strict=True):
        torch.testing.assert_close(actual, torch.stack(expected))
    (jacobian,) = torch.autograd.functional.jacobian(
        lambda x: linear(x, layer.weight, layer.bias).sum(tuple(range(x.dim() - 1))),
        (x.detach(),),
        vectorize=True,
    )
    expected = layer.weight.view(5, *[1] * (x.dim() - 1), 6).expand(5, *shape)
    torch.testing.assert_close(jacobian, expected)


@pytest.mark.parametrize('shape', [(2, 3, 6), (2, 8, 9, 6)], ids=str)
@pytest.mark.parametrize('needed', [1, 2, 3, 4, 5, 6, 7])
def test_only_what_the_gradients_need_is_kept(shape, needed, products):
    """The input for that of the weight, and the weight for that of the input."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(shape)
    tensors = (x, layer.weight, layer.bias)
    for i, tensor in enumerate(tensors):
        tensor.requires_grad_(bool(needed & 1 << i))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t) or t, lambda t: t
    ):
        y = linear(*tensors)
    x_needed, weight_needed, _ = (t.requires_grad for t in tensors)
    assert any(t.shape == x.shape for t in kept) == weight_needed
    assert any(t.shape == layer.weight.shape for t in kept) == x_needed
    assert len(kept) == x_needed + weight_needed and products
    inputs, incoming = [t for t in tensors if t.requires_grad], torch.randn_like(y)
    for actual, expected in zip(
        torch.autograd.grad(y, inputs, incoming),
        torch.autograd.grad(F.linear(*tensors), inputs, incoming),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_bits_are_those_of_a_call_without_gradients(products):
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(2, 3, 6)
    with torch.no_grad():
        expected = apply_linear(layer, x)
    assert torch.equal(apply_linear(layer, x), expected)
    assert len(products) == 2


def test_counters_and_transforms_see_a_linear_layer(products):
    layer, x = nn.Linear(6, 5), torch.randn(4, 3, 6)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        linear(x, layer.weight, layer.bias)
    assert counter.get_total_flops() == 2 * 12 * 6 * 5
    y = linear(x.requires_grad_(), layer.weight, layer.bias)
    with FlopCounterMode(display=False) as counter:  # two products of the same size
        y.sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 12 * 6 * 5
    x.requires_grad_(False)
    products.clear()
    torch.testing.assert_close(
        torch.func.vmap(lambda row: linear(row, layer.weight, layer.bias))(x), layer(x)
    )
    tangents = torch.func.jvp(
        lambda x: linear(x, layer.weight, layer.bias), (x,), (torch.ones_like(x),)
    )[1]
    torch.testing.assert_close(tangents, layer.weight.sum(1).expand(4, 3, 5))
    assert not products
    with torch.backends.mkldnn.flags(enabled=False):
        linear(x, layer.weight, layer.bias)
    assert not products


@pytest.mark.parametrize(
    'shape, weight', [((6,), (5, 6)), ((2, 6), (0, 6)), ((2, 6), (6,))], ids=str
)
def test_shapes_that_only_torch_takes(shape, weight):
    x = torch.randn(shape, requires_grad=True)
    weight = torch.randn(weight, requires_grad=True)
    for actual, expected in zip(
        gradients(linear, x, SimpleNamespace(weight=weight, bias=None)),
        gradients(F.linear, x, SimpleNamespace(weight=weight, bias=None)),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected)


def test_functions_of_torch_are_seen_too(products):
    """By modes, classes of tensors and dual numbers."""
    layer, x, seen = nn.Linear(6, 5), torch.randn(4, 3, 6), []

    class Seen(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    class Kind(torch.Tensor):
        pass

    with Seen():
        linear(x, layer.weight, layer.bias)
    assert F.linear in seen
    assert type(linear(x.as_subclass(Kind), layer.weight, layer.bias)) is Kind
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(linear(dual, layer.weight, layer.bias))[1]
    torch.testing.assert_close(tangent, layer.weight.sum(1).expand(4, 3, 5))
    assert not products


def test_autocast_leaves_float64_as_it_is():
    x, weight = torch.randn(4, 6).double(), torch.randn(5, 6).double()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
        for mixed in ((x.float(), weight), (x.float(), weight.float(), weight[:, 0])):
            with pytest.raises(RuntimeError, match='same dtype'):
                linear(*mixed)


@pytest.mark.parametrize(
    'x, weight, bias',
    [
        (torch.ones(2, 6), torch.ones(5, 7), None),
        (torch.ones(2, 6), torch.ones(5, 6), torch.ones(4)),
        (torch.ones(2, 6), torch.ones(5, 6, dtype=torch.bfloat16), None),
        (torch.ones(2, 6), torch.ones(5, 6), torch.ones(5, dtype=torch.float64)),
    ],
    ids=['features', 'bias', 'dtype', 'dtype of bias'],
)
def test_what_does_not_fit_is_refused_as_by_torch(x, weight, bias):
    with pytest.raises(RuntimeError) as expected:
        F.linear(x, weight, bias)
    with pytest.raises(RuntimeError) as actual:
        linear(x, weight, bias)
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize('context', ['autocast', 'model'])
def test_bfloat16(products, context):
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 32), torch.randn(4, 5, 64)
    expected = layer(x)
    if context == 'model':
        layer, x = layer.bfloat16(), x.bfloat16()
    lowered = torch.autocast('cpu', torch.bfloat16)
    with lowered if context == 'autocast' else nullcontext():
        actual = apply_linear(layer, x)
    actual.sum().backward()
    assert actual.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == layer.weight.dtype
    torch.testing.assert_close(actual.float(), expected, rtol=2e-2, atol=2e-2)
    assert bool(products) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
