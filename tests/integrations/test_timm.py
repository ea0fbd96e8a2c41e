# SPDX-License-Identifier: Apache-2.0
import copy
import pathlib
import pickle

import pytest
import timm
import torch
from integrations.pages import blocks
from timm.models import FeatureInfo, group_parameters
from timm.optim import create_optimizer_v2
from torch.testing import assert_close

from mmadaptor.models import ARCHITECTURES, create_backbone, create_classifier

PAGE = pathlib.Path(__file__).parents[2] / 'docs/timm.md'
BOTH = ('mamba_adaptor_b0', 'vim_tiny')
MAPS = [name for name in ARCHITECTURES if not name.startswith('vim')]
BOTH_DEPTHS = [('mamba_adaptor_b0', 4), ('vim_tiny', 24)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope='module')
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def perturb(model):
    """Adaptors start at zero: let them and all else count."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope='module', params=BOTH)
def trained(request):
    torch.manual_seed(0)
    return request.param, perturb(timm.create_model(request.param, num_classes=5))


@pytest.fixture
def model(trained):
    return copy.deepcopy(trained[1])


def test_every_architecture_is_registered():
    assert set(ARCHITECTURES) <= set(timm.list_models())
    assert all(timm.is_model(name) for name in ARCHITECTURES)
    from mmadaptor.integrations.timm import vim_tiny  # as from timm.models

    assert timm.model_entrypoint('vim_tiny') is vim_tiny


def test_an_unknown_name_is_timms_own_error():
    with pytest.raises(RuntimeError, match='Unknown model .mamba_adaptor_b9'):
        timm.create_model('mamba_adaptor_b9')


def test_logits_equal_those_of_the_classifier(trained, images):
    name, model = trained
    ours = create_classifier(name, 5).eval()
    ours.load_state_dict(model.state_dict())
    assert_close(model(images), ours(images), rtol=0, atol=0)


# --- timm's test_models.py, on the meta device ---


@pytest.mark.parametrize('name', MAPS)
def test_default_cfg_of_maps(name):
    model = timm.create_model(name, device='meta').eval()
    assert {p.device.type for p in model.parameters()} == {'meta'}
    cfg, images = model.default_cfg, torch.randn(1, 3, 224, 224, device='meta')
    assert (model.in_chans, 224, 224) == cfg['input_size']
    features = model.forward_features(images)
    assert features.shape == (1, model.num_features, *cfg['pool_size'])
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.head_hidden_size)
    assert model(images).shape == (1, 1000)
    assert {f'{cfg[k]}.weight' for k in ('first_conv', 'classifier')} <= set(
        model.state_dict()
    )
    model.reset_classifier(0)
    assert model.num_classes == 0 and model(images).shape == pooled.shape
    model.reset_classifier(0, '')
    assert model(images).shape == features.shape
    model = timm.create_model(name, num_classes=0, global_pool='', device='meta')
    assert model(images).shape == features.shape


@pytest.mark.parametrize('name', ['vim_tiny', 'vim_small'])
def test_default_cfg_of_vim(name):
    model = timm.create_model(name, device='meta').eval()
    cfg, images = model.default_cfg, torch.randn(1, 3, 224, 224, device='meta')
    features = model.forward_features(images)
    assert features.shape == (1, model.num_prefix_tokens + 196, model.num_features)
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.head_hidden_size)
    assert {f'{cfg[k]}.weight' for k in ('first_conv', 'classifier')} <= set(
        model.state_dict()
    )
    model.reset_classifier(0)
    assert model(images).shape == pooled.shape
    model.reset_classifier(0, '')
    assert model(images).shape == features.shape


def test_dtype_and_device_survive_a_new_classifier(model):
    model.to(device='meta', dtype=torch.float64).eval()
    model.reset_classifier(0)
    model.reset_classifier(2)
    head = model.get_classifier()
    assert head.weight.shape[0] == 2
    assert (head.weight.device.type, head.weight.dtype) == ('meta', torch.float64)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize('name', BOTH)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_dtype(name, dtype, images):
    model = timm.create_model(name, num_classes=5, dtype=dtype).eval()
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(images.to(dtype)).dtype == dtype


@pytest.mark.parametrize('size', [(64, 96), (65, 33), (7, 9), (1, 1)])
def test_any_size(model, size):
    assert model(torch.randn(1, 3, *size)).isfinite().all()


@pytest.mark.parametrize('name', BOTH)
def test_backward_reaches_every_parameter(name, images):
    model = timm.create_model(name, num_classes=42, drop_path_rate=0.1, drop_rate=0.1)
    out = model.train()(images)
    assert out.shape == (2, 42)
    out.mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert not [n for n, p in model.named_parameters() if not p.grad.isfinite().all()]


@pytest.mark.parametrize('features_only', [False, True])
def test_grad_checkpointing_keeps_gradients(images, features_only):
    gradients = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = timm.create_model('mamba_adaptor_b0', features_only=features_only)
        model.set_grad_checkpointing(enable)
        blocks = [m for m in model.modules() if hasattr(m, 'with_cp')]
        assert blocks and all(block.with_cp is enable for block in blocks)
        maps = model(images)
        sum(m.square().mean() for m in maps).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize('pool', ['avg', 'max', 'avgmax', 'catavgmax'])
def test_pools_of_maps(pool, images):
    model = timm.create_model('mamba_adaptor_b0', global_pool=pool, num_classes=3)
    x = model.eval().forward_features(images)
    mean, most = x.mean((2, 3)), x.amax((2, 3))
    expected = dict(avg=mean, max=most, avgmax=(mean + most) / 2)
    expected['catavgmax'] = torch.cat([mean, most], 1)
    assert_close(model.forward_head(x, pre_logits=True), expected[pool])
    assert model.head_hidden_size == expected[pool].shape[1]
    assert model(images).shape == (2, 3)


@pytest.mark.parametrize('pool', ['token', 'avg', 'max', 'avgmax'])
def test_pools_of_vim(pool, images):
    model = timm.create_model('vim_tiny', global_pool=pool, num_classes=3).eval()
    x = model.forward_features(images)
    token, patches = x[:, 0], x[:, 1:]
    mean, most = patches.mean(1), patches.amax(1)
    expected = dict(token=token, avg=mean, max=most, avgmax=(mean + most) / 2)
    assert_close(model.forward_head(x, pre_logits=True), expected[pool])
    assert model(images).shape == (2, 3)


def test_tokens_of_vim_are_those_of_the_backbone(images):
    model = perturb(timm.create_model('vim_tiny', num_classes=0))
    x = model.forward_features(images)
    assert_close(model.backbone(images)[-1], x[:, 0])
    model.backbone.out_type = 'featmap'
    assert_close(model.backbone(images)[-1].flatten(2).transpose(1, 2), x[:, 1:])


def test_a_new_classifier_keeps_the_pool(images):
    for name in BOTH:
        model = timm.create_model(name, global_pool='max', num_classes=2).eval()
        before = model.forward_head(model.forward_features(images), pre_logits=True)
        model.reset_classifier(5)
        after = model.forward_head(model.forward_features(images), pre_logits=True)
        assert_close(after, before)
        assert model(images).shape == (2, 5)


# --- features ---


@pytest.mark.parametrize('name, count', BOTH_DEPTHS)
@pytest.mark.parametrize('indices', [None, (0, 2), (-1, 1), 2, (3, 3)])
def test_features_equal_those_of_the_backbone(name, count, indices, images):
    wanted = dict(out_indices=indices) if indices else {}
    model = perturb(timm.create_model(name, features_only=True, **wanted))
    default = [-3, -2, -1] if name == 'vim_tiny' else [0, 1, 2, 3]
    indices = [-2, -1] if indices == 2 else list(indices or default)
    indices = [i % count for i in indices]
    more = dict(out_type='featmap') if name == 'vim_tiny' else {}
    backbone = create_backbone(name, out_indices=sorted(set(indices)), **more)
    missing, unexpected = backbone.load_state_dict(
        model.model.backbone.state_dict(), strict=False
    )
    assert not unexpected
    absent = {int(n.split('.')[1]) for n in missing if n.startswith('layers')}
    assert all(i > max(indices) for i in absent)
    maps = dict(zip(sorted(set(indices)), backbone.eval()(images)))
    outputs = model(images)
    assert len(outputs) == len(indices)
    for i, out in zip(indices, outputs):
        assert_close(out, maps[i], rtol=0, atol=0)
    assert model.feature_info.channels() == [x.shape[1] for x in outputs]
    assert model.feature_info.reduction() == [64 // x.shape[2] for x in outputs]


@pytest.mark.parametrize('name', BOTH)
def test_features_use_every_parameter(name, images):
    model = timm.create_model(name, features_only=True, out_indices=(0, 1))
    sum(x.mean() for x in model(images)).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_intermediates(model, images):
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    final, maps = model.forward_intermediates(images)
    assert_close(final, model.forward_features(images), rtol=0, atol=0)
    assert [x.shape[1] for x in maps] == info.channels()
    assert [64 // x.shape[2] for x in maps] == info.reduction()
    other = 'NLC' if model.num_features == 192 else 'NHWC'
    last = model.forward_intermediates(
        images, (-1, 1), stop_early=True, output_fmt=other, intermediates_only=True
    )
    as_maps = [maps[-1], maps[1]]
    if other == 'NLC':
        as_maps = [x.flatten(2) for x in as_maps]
    assert_close([x.movedim(-1, 1) for x in last], as_maps, rtol=0, atol=0)
    (normed,) = model.forward_intermediates(
        images, 1, norm=True, intermediates_only=True
    )
    if other == 'NHWC':
        assert_close(normed, final, rtol=0, atol=0)
    else:
        assert_close(normed.flatten(2).transpose(1, 2), final[:, 1:], rtol=0, atol=0)
        _, pairs = model.forward_intermediates(
            images, [23], norm=True, return_prefix_tokens=True
        )
        assert_close(pairs[0], (normed, final[:, :1]), rtol=0, atol=0)


def test_wrong_images_are_named(model):
    for images in (torch.rand(3, 32, 32), torch.rand(1, 3, 0, 32)):
        for call in (model, model.forward_intermediates):
            with pytest.raises(ValueError, match=r'must be a batch \(B, C, H, W\)'):
                call(images)


def test_tools_can_read_the_patches_of_vim(images):
    model, maps = timm.create_model('vim_tiny', num_classes=3), []
    model.backbone.patch_map.register_forward_hook(lambda *call: maps.append(call[2]))
    model(images)
    assert [m.shape[1] for m in maps] == [192]


def test_intermediates_refuse_another_format(model, images):
    with pytest.raises(ValueError, match=r"`output_fmt` .*'NCHW'.*got 'CHWN'"):
        model.forward_intermediates(images, output_fmt='CHWN')


@pytest.mark.parametrize('indices', [[0], [-1], [1, 3]])
@pytest.mark.parametrize('prune_norm', [False, True])
def test_pruned_models_run_and_have_no_unused_parameters(
    model, images, indices, prune_norm
):
    raw = model.forward_intermediates(images, indices, intermediates_only=True)
    taken = model.prune_intermediate_layers(indices, prune_norm=prune_norm)
    assert taken == [i % len(model.feature_info) for i in indices]
    assert model.num_classes == 0
    pruned = model.forward_intermediates(images, taken, intermediates_only=True)
    assert_close(pruned, raw, rtol=0, atol=0)
    final, _ = model.forward_intermediates(images, taken)
    assert_close(model(images), final, rtol=0, atol=0)
    model(images).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_pruned_models_may_have_frozen_stages(images):
    model = timm.create_model(
        'mamba_adaptor_b0', features_only=True, out_indices=(0,), frozen_stages=3
    )
    model.train()(images)[0].sum().backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None]
    assert trained == ['model.backbone.norm0.weight', 'model.backbone.norm0.bias']


# --- wrong arguments ---


@pytest.mark.parametrize('name, count', BOTH_DEPTHS)
@pytest.mark.parametrize('indices', [(99,), (), 0, 'a', (1.5,), (-25,)])
def test_wrong_out_indices_are_named(name, count, indices):
    with pytest.raises(ValueError, match='`out_indices` must be') as caught:
        timm.create_model(name, features_only=True, out_indices=indices)
    assert repr(indices) in str(caught.value)


@pytest.mark.parametrize(
    'arguments, error, match',
    [
        (dict(in_chans=0), ValueError, '`in_channels` must be .* got 0'),
        (dict(num_classes=-1), ValueError, '`num_classes` must be .* got -1'),
        (dict(drop_path_rate=2), ValueError, '`drop_path_rate` must be .* got 2'),
        (dict(adaptors=dict(foo=1)), ValueError, "`adaptors` may only .*'foo'"),
        (dict(foo=1), TypeError, "unexpected keyword argument 'foo'"),
        (dict(in_channels=4), TypeError, '`in_channels` .*: use in_chans'),
        (dict(out_indices=(1,)), TypeError, '`out_indices` .*features_only=True'),
        (dict(init_cfg={}), TypeError, '`init_cfg` .*pretrained_cfg_overlay'),
        (dict(features_only=True, feature_cls='list'), ValueError, "got 'list'"),
    ],
)
@pytest.mark.parametrize('name', BOTH)
def test_wrong_arguments_are_named(name, arguments, error, match):
    with pytest.raises(error, match=match):
        timm.create_model(name, **arguments)


def test_an_unknown_pool_of_vim_is_named(model):
    with pytest.raises((ValueError, AssertionError), match='foo'):
        model.reset_classifier(3, 'foo')


# --- what users do with a model ---


def test_copies(model, images):
    expected = model(images)
    assert_close(copy.deepcopy(model)(images), expected, rtol=0, atol=0)
    assert_close(pickle.loads(pickle.dumps(model))(images), expected, rtol=0, atol=0)


def test_trace_serves_other_sizes(model, images):
    with torch.no_grad():
        traced = torch.jit.trace(model, images)
        other = torch.randn(1, 3, 96, 64)
        assert_close(traced(other), model(other))


def test_compile_has_no_graph_break(model, images):
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)
        assert_close(compiled(images), model(images))


def test_in_chans(images):
    for name in BOTH:
        for channels in (1, 4):
            model = timm.create_model(name, in_chans=channels, num_classes=2)
            assert model.in_chans == channels
            assert model(torch.randn(1, channels, 64, 64)).shape == (1, 2)


def test_arguments_of_the_backbone(images):
    model = timm.create_model(
        'vmamba_tiny', num_classes=2, adaptors=dict(spatial=dict()), trainable=[]
    )
    assert any('.spatial.' in name for name in model.state_dict())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'head.fc.weight', 'head.fc.bias'}
    model = timm.create_model('vim_tiny', img_size=(32, 64), num_classes=2)
    assert model.backbone.pos_embed.shape == (1, 9, 192)


# --- optimizers ---


def test_undecayed_parameters(model):
    names, kept = dict(model.named_parameters()), model.no_weight_decay()
    assert kept <= set(names)
    assert {n for n in names if n.endswith(('A_log', '.D', 'dt_weight'))} <= kept
    decayed = [n for n, p in names.items() if p.ndim > 1 and n not in kept]
    optimizer = create_optimizer_v2(model, 'adamw', 1e-3, weight_decay=0.05)
    groups = {g['weight_decay']: g['params'] for g in optimizer.param_groups}
    assert set(map(id, groups[0.05])) == {id(names[n]) for n in decayed}
    if 'backbone.cls_token' in names:
        assert {'backbone.cls_token', 'backbone.pos_embed'} <= kept


@pytest.mark.parametrize('name', BOTH)
def test_layer_decay_follows_the_depth(name):
    model = timm.create_model(name, num_classes=2)
    optimizer = create_optimizer_v2(
        model, opt='adamw', lr=1e-3, weight_decay=0.05, layer_decay=0.7
    )
    scales = {
        id(p): group['lr_scale']
        for group in optimizer.param_groups
        for p in group['params']
    }
    of = {n: scales[id(p)] for n, p in model.named_parameters()}
    count = 5 if name == 'mamba_adaptor_b0' else 24
    assert len(set(of.values())) == count + 2
    assert of['head.fc.weight'] == 1
    part = 'layers.{}' if name == 'vim_tiny' else 'stages.3.0'
    last = f'backbone.{part.format(count - 1)}.mixer.in_proj.weight'
    assert of[last] == pytest.approx(0.7)
    first = 'patch_embed' if name == 'vim_tiny' else 'downsample_layers.0.0'
    stem = [v for n, v in of.items() if n.startswith(f'backbone.{first}')]
    assert set(stem) == {min(of.values())}
    assert min(of.values()) == pytest.approx(0.7 ** (count + 1))


def test_coarse_groups_are_stages():
    model = timm.create_model('mamba_adaptor_b0')
    groups = group_parameters(model, model.group_matcher(coarse=True))
    stages = [groups[i] for i in sorted(groups)]
    assert len(stages) == 6  # stem, four stages, head
    assert 'backbone.downsample_layers.2.0.weight' in stages[3]
    assert {n.split('.')[1:3][1] for n in stages[3]} == {'2'}


# --- the page ---


# test_smp.py runs the others.
BLOCKS = [code for code in blocks(PAGE) if 'segmentation_models' not in code]


@pytest.mark.parametrize('code', BLOCKS, ids=range(len(BLOCKS)))
def test_page(code, tmp_path, monkeypatch):
    assert len([line for line in code.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(code, {})
