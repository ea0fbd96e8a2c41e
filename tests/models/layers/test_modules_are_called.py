# SPDX-License-Identifier: Apache-2.0
"""LoRA, quantization, parametrizations and hooks of a layer affect the output.

Each model is compared with a plain one that has the effective weights.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune

from mmadaptor.models import MambaAdaptor, Vim, VMamba
from mmadaptor.models.layers import AdaptorS

ARCH = dict(embed_dims=16, depths=(1, 1), d_state=1, ssm_ratio=1.0)
BOTH = dict(temporal={}, spatial={})
MODELS = dict(
    vmamba=lambda: VMamba(ARCH, out_indices=(0, 1), scan_init='balanced'),
    mamba_adaptor=lambda: MambaAdaptor(
        dict(ARCH, d_state=2), out_indices=(0, 1), scan_init='balanced'
    ),
    vim=lambda: Vim(
        dict(embed_dims=16, depth=2), 32, 8, out_type='featmap', adaptors=BOTH
    ),
)
LINEARS = dict(
    vmamba=['mixer.in_proj', 'mixer.x_proj', 'mixer.out_proj', 'mlp.0', 'mlp.2'],
    mamba_adaptor=['mixer.x_proj', 'mixer.temporal.offsets'],
    vim=['mixer.in_proj', 'mixer.out_proj', 'mixer.temporal.coefficients'],
)
CONVS = dict(
    vmamba=['mixer.conv'],
    mamba_adaptor=['mixer.spatial.convs.1'],
    vim=['mixer.conv', 'mixer.spatial.convs.0'],
)
LAYERS = [
    pytest.param(name, path, id=f'{name}-{path}')
    for name in MODELS
    for path in LINEARS[name] + CONVS[name]
]


def build(name):
    """Build a model whose layers all matter."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * (0.3 if name == 'vim' else 0.1))
    return model.eval()


def block_of(model):
    """Return the last block."""
    return model.layers[-1] if isinstance(model, Vim) else model.stages[-1][-1]


def images_of(dtype=torch.float32):
    return torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(0)).to(
        dtype
    )


def check(changed, plain, before=None, rtol=2e-5):
    """Compare the outputs, relative to their size, and check that they changed."""
    with torch.no_grad():
        actual, expected = changed(images_of())[-1], plain(images_of())[-1]
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0, atol=rtol * scale)
        if before is not None:
            size = (actual - before(images_of())[-1]).abs().max().item()
            assert size > 10 * rtol * scale


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.mark.parametrize('name, path', LAYERS)
def test_forward_hooks(name, path):
    model = build(name)
    plain, before = copy.deepcopy(model), copy.deepcopy(model)
    layer = block_of(model).get_submodule(path)
    layer.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    layer.register_forward_hook(lambda module, _, y: y * 0.75)
    effective = block_of(plain).get_submodule(path)
    with torch.no_grad():
        effective.weight.mul_(1.5)
        if effective.bias is not None:
            effective.bias.mul_(0.75)
    check(model, plain, before)


@pytest.mark.parametrize('name, path', LAYERS)
def test_backward_hooks(name, path):
    """A hook that doubles the gradient of the output doubles that of the weight."""
    model = build(name)
    layer = block_of(model).get_submodule(path)

    def gradient():
        loss = sum(y.square().sum() for y in model(images_of()))
        return torch.autograd.grad(loss, layer.weight)[0]

    expected = 2 * gradient()
    layer.register_full_backward_pre_hook(lambda _, grads: (grads[0] * 2,))
    scale = expected.abs().max().item()
    torch.testing.assert_close(gradient(), expected, rtol=0, atol=1e-3 * scale)


def test_global_hooks_see_the_linear_layers():
    """Such as those by which FlopCounterMode attributes operations to modules."""
    model, called = build('vmamba'), []
    expected = [module for module in model.modules() if type(module) is nn.Linear]
    hook = register_module_forward_hook(lambda module, *_: called.append(module))
    with hook:
        model(images_of())
    assert [module for module in called if module in expected] == expected


@pytest.mark.parametrize('name, path', LAYERS)
@pytest.mark.parametrize('kind', ['weight_norm', 'spectral_norm', 'prune'])
def test_parametrizations_and_pruning(name, path, kind):
    model = build(name)
    plain, before = copy.deepcopy(model), copy.deepcopy(model)
    layer = block_of(model).get_submodule(path)
    if kind == 'prune':
        prune.l1_unstructured(layer, 'weight', 0.5)
        with torch.no_grad():  # a step of the optimizer
            layer.weight_orig.mul_(1.5)
        effective = layer.weight_orig * layer.weight_mask
    else:
        getattr(parametrizations, kind)(layer)
        with torch.no_grad():
            layer.parametrizations.weight[0].eval()
            layer.parametrizations.weight[-1].eval()
            if kind == 'weight_norm':
                layer.parametrizations.weight.original0.mul_(1.5)
            effective = layer.weight
    with torch.no_grad():
        block_of(plain).get_submodule(path).weight.copy_(effective)
    check(model, plain, before)


@pytest.mark.parametrize(
    'name, parameter',
    [('vmamba', 'dt_weight'), ('vim', 'dt_weight'), ('vim', 'x_weight')],
)
def test_parametrized_projections_of_all_directions(name, parameter):
    """These projections are parameters of the mixer, not modules."""
    model = build(name)
    plain, before = copy.deepcopy(model), copy.deepcopy(model)
    mixer = block_of(model).mixer
    parametrizations.weight_norm(mixer, parameter)
    with torch.no_grad():
        mixer.parametrizations[parameter].original0.mul_(1.5)
        getattr(block_of(plain).mixer, parameter).copy_(getattr(mixer, parameter))
    check(model, plain, before)


def test_lora_of_mmpretrain(name):
    lora = pytest.importorskip('mmpretrain.models.peft.lora')
    model = build(name)
    plain, before = copy.deepcopy(model), copy.deepcopy(model)
    for path in LINEARS[name]:
        parent, _, child = path.rpartition('.')
        parent = block_of(model).get_submodule(parent)
        layer = lora.LoRALinear(getattr(parent, child), alpha=4, rank=2)
        nn.init.normal_(layer.lora_up.weight)
        setattr(parent, child, layer)
        with torch.no_grad():
            block_of(plain).get_submodule(path).weight.add_(
                layer.scaling * layer.lora_up.weight @ layer.lora_down.weight
            )
    check(model, plain, before)


def test_the_model_of_lora_trains_every_target():
    """Also those that an op computes together, in mmpretrain's own wrapper."""
    lora = pytest.importorskip('mmpretrain.models.peft.lora')
    settings = dict(type='mmadaptor.MambaAdaptor', arch=ARCH, out_indices=(1,))
    adaptors = dict(temporal=dict(gamma_init=1.0), spatial=dict(alpha_init=1.0))
    targets = ['in_proj', 'x_proj', 'out_proj', 'mlp.0', 'offsets', 'coefficients']
    model = lora.LoRAModel(
        dict(settings, adaptors=adaptors),
        rank=2,
        targets=[dict(type=target) for target in targets],
    )
    model(images_of())[-1].square().sum().backward()
    trained = {n: p.grad for n, p in model.named_parameters() if '.lora_up.' in n}
    assert len(trained) == 2 * len(targets)
    assert all(grad.abs().max() > 0 for grad in trained.values())


@pytest.mark.parametrize(
    'dtype, rtol', [(torch.float16, 2e-4), (torch.qint8, 0.1)], ids=str
)
def test_quantize_dynamic(name, dtype, rtol):
    """Every linear layer is quantized; int8 also quantizes the inputs of the layers."""
    before = build(name)
    model, plain = quantize_dynamic(before, dtype=dtype), copy.deepcopy(before)
    quantized = 0
    for path, layer in before.named_modules():
        if isinstance(layer, nn.Linear):
            made = model.get_submodule(path)
            assert isinstance(made, torch.ao.nn.quantized.dynamic.Linear), path
            weight = made.weight()
            weight = weight.dequantize() if weight.is_quantized else weight.half()
            plain.get_submodule(path).weight.data.copy_(weight)
            quantized += 1
    assert quantized >= 2 * len(LINEARS[name])
    check(model, plain, rtol=rtol)
    assert not torch.equal(model(images_of())[-1], before(images_of())[-1])


class Quantized(torch.Tensor):
    """A weight that only the function of its layer takes, as those of torchao."""

    @staticmethod
    def of(weight):
        scale = weight.detach().abs().max() / 127
        quantized = torch.Tensor._make_subclass(Quantized, (weight / scale).round())
        quantized.scale, quantized._is_param = scale, True
        return quantized

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if function in (F.linear, F.conv2d):
                x, weight, *others = args
                return function(x, weight * weight.scale, *others, **(kwargs or {}))
            if function.__name__ == '__get__':  # such as its shape
                return function(*args, **(kwargs or {}))
        raise NotImplementedError(f'{function} of Quantized')


@pytest.mark.parametrize('name, path', LAYERS)
def test_weights_of_another_class(name, path):
    model = build(name)
    plain = copy.deepcopy(model)
    layer = block_of(model).get_submodule(path)
    layer.weight = Quantized.of(layer.weight)
    with torch.no_grad():
        weight = torch.Tensor.as_subclass(layer.weight.data, torch.Tensor)
        block_of(plain).get_submodule(path).weight.copy_(weight * layer.weight.scale)
    check(model, plain)


@pytest.mark.parametrize('autocast', [False, True])
def test_hooked_layers_in_half_precision(autocast):
    model = build('mamba_adaptor')
    plain = copy.deepcopy(model)
    for path in ('temporal.offsets', 'spatial.convs.0'):
        layer = block_of(model).mixer.get_submodule(path)
        layer.register_forward_hook(lambda *_: None)
    dtype = torch.float32 if autocast else torch.bfloat16
    model, plain = model.to(dtype), plain.to(dtype)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        a, b = model(images_of(dtype))[-1], plain(images_of(dtype))[-1]
    assert a.dtype == b.dtype
    torch.testing.assert_close(a, b, rtol=0, atol=0.03 * b.abs().max().item())


def replace(layer):
    layer.convs[1] = nn.Sequential(layer.convs[1])


def hook(layer):
    layer.convs[1].register_forward_hook(lambda _, args, y: 2 * y)


def parametrize(layer):
    parametrizations.weight_norm(layer.convs[1])


@pytest.mark.parametrize(
    'change, got',
    [(replace, 'Sequential'), (hook, 'Conv2d'), (parametrize, 'ParametrizedConv2d')],
)
def test_a_merged_kernel_ignores_no_convolution(change, got):
    layer = AdaptorS(4, alpha_init=1.0).eval()
    message = rf'`convs.1` of AdaptorS must be a plain Conv2d.*got {got}'
    deployed = copy.deepcopy(layer)
    deployed.switch_to_deploy()
    change(layer)
    change(deployed)
    with pytest.raises(RuntimeError, match=message):
        layer.switch_to_deploy()
    with pytest.raises(RuntimeError, match=message):
        deployed(torch.randn(1, 3, 3, 4))
    deployed.switch_to_train()
    y = torch.randn(1, 3, 3, 4)
    torch.testing.assert_close(deployed(y), layer(y))
