# SPDX-License-Identifier: Apache-2.0
"""Exported ONNX files in onnxruntime, compared with torch."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mmadaptor.errors import InputError
from mmadaptor.export.memory import describe_memory
from mmadaptor.export.onnx import compare, export_onnx
from mmadaptor.export.openmmlab import Exported, sample_names
from mmadaptor.models import MambaAdaptor, Vim, VMamba

TINY = dict(embed_dims=8, depths=(1, 1), d_state=1, ssm_ratio=1.0)
ONE = dict(arch=dict(TINY, depths=(1,)), out_indices=(0,))
BOTH = dict(temporal=dict(gamma_init=0.5), spatial=dict(alpha_init=0.5))
STATIC = dict(temporal=dict(gamma_init=0.5, static=True), spatial=BOTH['spatial'])
VIM = dict(
    arch=dict(embed_dims=8, depth=1), img_size=64, patch_size=8, out_type='featmap'
)
MODELS = {
    'VMamba': lambda: VMamba(**ONE),
    'MambaAdaptor': lambda: MambaAdaptor(TINY, out_indices=(0, 1), adaptors=BOTH),
    'two states, static': lambda: MambaAdaptor(
        dict(ONE['arch'], d_state=2, ssm_ratio=2.0), out_indices=(0,), adaptors=STATIC
    ),
    'Vim with adaptors': lambda: Vim(**VIM, adaptors=BOTH),
}
UNSEEN = ((1, 3, 64, 64), (3, 3, 33, 70), (2, 3, 96, 41))


def images(shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def perturbed(model):
    """Random predictors, without which all weights of Adaptor-T are equal."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if 'temporal' in name and name.endswith('weight'):
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def exported(model, tmp_path, **options):
    path = tmp_path / 'model.onnx'
    outputs = [f'map_{i}' for i in range(len(getattr(model, 'out_indices', ())))]
    export_onnx(model, path, (64, 48), outputs, **options)
    return path


def operators(path):
    graph = onnx.load(path)
    assert not graph.functions
    return {(node.domain, node.op_type) for node in graph.graph.node}


@pytest.mark.parametrize('name', MODELS)
def test_a_file_equals_the_model_at_sizes_it_has_not_seen(name, tmp_path):
    model = perturbed(MODELS[name]())
    path = exported(model, tmp_path)
    worst = compare(path, model, images(UNSEEN))
    assert max(worst.values()) < 1e-5, worst
    assert ('com.microsoft', 'LinearAttention') in operators(path)


@pytest.mark.parametrize('name', MODELS)
def test_custom_ops(name, tmp_path):
    model = perturbed(MODELS[name]())
    path = exported(model, tmp_path, custom_ops=True)
    worst = compare(path, model, images(UNSEEN))
    assert max(worst.values()) < 1e-5, worst
    found = {op for domain, op in operators(path) if domain == 'mmadaptor'}
    expected = {
        'VMamba': {'CrossSelectiveScan'},
        'MambaAdaptor': {'CrossSelectiveScan', 'MemoryReadout', 'DilatedDepthwise'},
        'two states, static': {
            'CrossSelectiveScan',
            'CrossReadout',
            'MemorySelect',
            'DilatedDepthwise',
        },
        'Vim with adaptors': {'SelectiveScan', 'MemoryReadout', 'DilatedDepthwise'},
    }
    assert found == expected[name]
    with pytest.raises(Exception, match='mmadaptor'):
        onnxruntime.InferenceSession(str(path))


def test_custom_ops_are_not_standard(tmp_path):
    with pytest.raises(InputError, match='`standard` and `custom_ops` exclude'):
        exported(nn.Identity(), tmp_path, standard=True, custom_ops=True)


def test_standard_operators_alone(tmp_path):
    model = perturbed(MambaAdaptor(**ONE, adaptors=BOTH))
    path = exported(model, tmp_path, standard=True, metadata=dict(task='features'))
    assert {domain for domain, _ in operators(path)} == {''}
    assert ('', 'LinearAttention') in operators(path)
    content = onnx.load(path)
    assert [(o.domain, o.version) for o in content.opset_import] == [('', 27)]
    metadata = {p.key: p.value for p in content.metadata_props}
    assert metadata == dict(task='features', smallest='33')
    assert max(compare(path, model, images(UNSEEN)).values()) < 1e-5


def test_what_was_merged_for_inference(tmp_path):
    model = perturbed(MambaAdaptor(**ONE, adaptors=BOTH))
    expected = model(images(UNSEEN)[1])
    model.switch_to_deploy()
    path = exported(model, tmp_path)
    assert max(compare(path, model, images(UNSEEN)).values()) < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    for got, ours in zip(
        session.run(None, {'images': images(UNSEEN)[1].numpy()}), expected
    ):
        torch.testing.assert_close(torch.from_numpy(got), ours, rtol=1e-4, atol=1e-5)


def test_the_memory_of_vim(tmp_path):
    """Without its class token, which counts to the patch scanned after it."""
    model = perturbed(MODELS['Vim with adaptors']())
    outputs = Exported(model, 'features', memory=True)
    names = sample_names(outputs, (64, 48), 3)
    assert names == ['map_0', 'places_0', 'weights_0', 'decays_0']
    (layer,) = describe_memory(model, outputs.recorded)
    assert layer['directions'] == ['rows', 'rows reversed']
    assert (layer['layer'], layer['stride'], layer['first']) == ('layers.0', 8, 3.5)
    path = tmp_path / 'model.onnx'
    export_onnx(outputs, path, (64, 48), names)
    assert max(compare(path, outputs, images(UNSEEN)).values()) < 1e-5


ALL = {
    'VMamba': lambda **o: VMamba(TINY | dict(depths=(1, 1, 1)), **o),
    'Vim': lambda **o: Vim(**VIM | dict(arch=dict(embed_dims=8, depth=3)), **o),
}


@pytest.mark.parametrize('name', ALL)
def test_the_memory_of_layers_that_run_alone(name):
    """Layers behind the last of `out_indices` have no outputs."""
    adaptors = dict(temporal=dict(), blocks=[[1, 2]] if name == 'Vim' else None)
    model = ALL[name](out_indices=(0, 1), adaptors=adaptors)
    outputs = Exported(model, 'features', memory=True)
    names = sample_names(outputs, (64, 48), 3)
    layers = describe_memory(model, outputs.recorded)
    expected = dict(VMamba=['stages.0.0', 'stages.1.0'], Vim=['layers.1'])[name]
    assert [layer['layer'] for layer in layers] == expected
    told = [layer[k] for layer in layers for k in ('places', 'weights', 'decays')]
    assert told == names[2:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_model_on_a_gpu_is_compared(tmp_path):
    model = perturbed(MODELS['VMamba']())
    path = exported(model, tmp_path)
    batches = [batch.cuda() for batch in images(UNSEEN)]
    assert max(compare(path, model.cuda(), batches).values()) < 1e-3


def test_a_fixed_size(tmp_path):
    model = perturbed(MODELS['VMamba']())
    path = exported(model, tmp_path, dynamic=False)
    assert not onnx.load(path).metadata_props
    (given,) = onnxruntime.InferenceSession(str(path)).get_inputs()
    assert given.shape == [1, 3, 64, 48]
    assert max(compare(path, model, images([(1, 3, 64, 48)])).values()) < 1e-5


class Pooling(nn.Module):
    """The pooling of pyramids, in bins that do not divide the image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bins = nn.ModuleList(nn.AdaptiveAvgPool2d(n) for n in (1, 2, 3, 6))

    def forward(self, x):
        return tuple(pool(self.conv(x)) for pool in self.bins)


def test_adaptive_pooling_serves_every_size(tmp_path):
    path = tmp_path / 'pooling.onnx'
    model = Pooling()
    export_onnx(model, path, (64, 48), ['1', '2', '3', '6'])
    worst = compare(path, model, images([*UNSEEN, (1, 3, 35, 224)]))
    assert max(worst.values()) < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    assert session.get_inputs()[0].shape == ['batch', 3, 'height', 'width']
    assert session.get_outputs()[0].shape == ['batch', 4, 1, 1]


def test_what_cannot_be_exported_says_so_and_leaves_no_file(tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x) if x.sum() > 0 else x

    path = tmp_path / 'model.onnx'
    with pytest.raises(InputError, match='Counts cannot be exported: '):
        export_onnx(Counts(), path, (64, 64), ['y'])
    with pytest.raises(InputError, match='33 or more rows and columns, got 32 x 64'):
        export_onnx(perturbed(MODELS['VMamba']()), path, (32, 64), ['y'])
    assert list(tmp_path.iterdir()) == []


def test_an_onnxruntime_without_the_operator(tmp_path):
    path = tmp_path / 'model.onnx'
    node = onnx.helper.make_node('Unknown', ['images'], ['y'], domain='com.microsoft')
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in ('images', 'y')
    )
    graph = onnx.helper.make_graph([node], 'g', [x], [y])
    onnx.save(onnx.helper.make_model(graph, ir_version=10), path)
    message = r'onnxruntime 1\.\d+\.\d+ cannot load .*model\.onnx; it needs 1\.32'
    with pytest.raises(InputError, match=message):
        compare(path, nn.Identity(), [])


def test_what_differs_is_seen(tmp_path):
    """NaN, and another class, too."""
    path = tmp_path / 'model.onnx'

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

        def forward(self, x):
            y = x * self.factor
            return y, (y[:, :1] > 0).long()

    model = Scaled()
    export_onnx(model, path, (64, 48), ['y', 'classes'])
    batches = images(UNSEEN)
    assert compare(path, model, batches) == dict(y=0.0, classes=0.0)
    model.factor.data.fill_(-2.0)
    worst = compare(path, model, batches)
    assert worst['y'] == pytest.approx(1.5) and worst['classes'] > 0.9
    model.factor.data.fill_(torch.nan)
    assert not compare(path, model, batches)['y'] <= 1


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('mmadaptor.export.onnx.has_code', lambda n: n != 'onnxscript')
    with pytest.raises(InputError, match=r'onnxscript: .*install "onnxscript>=0\.7"'):
        exported(perturbed(MODELS['VMamba']()), tmp_path)
