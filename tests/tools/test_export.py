# SPDX-License-Identifier: Apache-2.0
"""tools/export.py on models of each toolbox, and what it refuses."""

import json
import runpy
import shutil
import sys
import types

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.jobs import META, ROOT, make_job, refusal
from integrations.pages import blocks
from mmengine.config import Config
from PIL import Image

from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.environment import numbers
from mmadaptor.errors import InputError
from mmadaptor.export.openmmlab import (
    Exported,
    describe,
    resize_of_pipeline,
    sample_names,
    size_of_pipeline,
    task_of,
)
from mmadaptor.models.record import log_decays, record_memory

if numbers(onnxruntime.__version__) < [1, 32]:
    pytest.skip('onnxruntime 1.32 needs Python 3.11', allow_module_level=True)

OURS = """
model['backbone'] = dict(
    type='mmadaptor.MambaAdaptor', out_indices={indices},
    arch=dict(embed_dims={dims}, depths={depths}, d_state=1, ssm_ratio=1.0),
    adaptors=dict(spatial=dict()))
"""
PYRAMID = OURS.format(indices=(0, 1, 2), dims=16, depths=(1, 1, 1))
ONE_MAP = OURS.format(indices=(1,), dims=32, depths=(1, 1))


def job(scope, tmp_path):
    """Config and checkpoint of a model with our backbone."""
    settings = PYRAMID if scope == 'mmdet' else ONE_MAP
    _, config, checkpoint = make_job(scope, tmp_path, settings)
    return config, checkpoint


def export(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, 'argv', ['export.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / 'export.py'), run_name='__main__')
    return capsys.readouterr().out


def run(path, images):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {'images': images.numpy()}), strict=True))


def predicted(config, checkpoint, images):
    """What the toolbox itself predicts for normalized images."""
    model = build_and_load(Config.fromfile(config), str(checkpoint)).eval()
    with torch.no_grad():
        return model, model(images, mode='tensor')


def test_a_classifier(tmp_path, monkeypatch, capsys):
    config, checkpoint = job('mmpretrain', tmp_path)
    path = tmp_path / 'model.onnx'
    shown = export(monkeypatch, capsys, config, checkpoint, path)
    assert 'ImageClassifier, outputs logits; takes images of any size from 33' in shown
    assert 'Largest relative difference from torch: logits ' in shown
    images = torch.randn(2, 3, 70, 50)
    _, expected = predicted(config, checkpoint, images)
    np.testing.assert_allclose(run(path, images)['logits'], expected, atol=1e-5)
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert props['task'] == 'classification' and props['smallest'] == '33'
    assert json.loads(props['classes']) == list(META['mmpretrain']['classes'])
    assert json.loads(props['mean']) == [128.0] * 3
    assert json.loads(props['channel_order']) == 'bgr'


def test_the_preprocessing_beside_a_model(tmp_path):
    """As in all of our classifiers' configs; that of the model goes first."""
    config, checkpoint = job('mmpretrain', tmp_path)
    cfg = Config.fromfile(config)
    inside = cfg.model.pop('data_preprocessor')
    cfg.data_preprocessor = dict(inside, to_rgb=True, std=[32.0] * 3)
    found = describe(build_and_load(cfg, str(checkpoint)), None, 'classification')
    assert json.loads(found['mean']) == [128.0] * 3
    assert json.loads(found['std']) == [32.0] * 3
    assert json.loads(found['channel_order']) == 'rgb'
    assert 'data_preprocessor' not in cfg.model
    cfg.model.data_preprocessor = inside
    found = describe(build_and_load(cfg, str(checkpoint)), None, 'classification')
    assert json.loads(found['std']) == [64.0] * 3


def test_a_segmentor_and_its_classes(tmp_path, monkeypatch, capsys):
    config, checkpoint = job('mmseg', tmp_path)
    path = tmp_path / 'model.onnx'
    export(monkeypatch, capsys, config, checkpoint, path, '--standard')
    images = torch.randn(2, 3, 70, 50)
    model, small = predicted(config, checkpoint, images)
    expected = torch.nn.functional.interpolate(
        small, (70, 50), mode='bilinear', align_corners=model.align_corners
    )
    np.testing.assert_allclose(run(path, images)['logits'], expected, atol=1e-5)
    classes = tmp_path / 'classes.onnx'
    export(monkeypatch, capsys, config, checkpoint, classes, '--classes')
    found = run(classes, images)['classes']
    assert (found == expected.argmax(1).numpy()).mean() > 0.9999


def test_the_page_runs_a_segmentor_without_torch(tmp_path, monkeypatch, capsys):
    """Its preprocessing, by the metadata, is that of the toolbox."""
    config, checkpoint = job('mmseg', tmp_path)
    export(
        monkeypatch, capsys, config, checkpoint, tmp_path / 'model.onnx', '--classes'
    )
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), 'uint8')
    Image.fromarray(pixels).save(tmp_path / 'picture.png')
    monkeypatch.chdir(tmp_path)
    block, with_library = blocks('export.md')
    assert 'torch' not in block and 'mmadaptor' not in block
    names = {}
    exec(block, names)
    shown = capsys.readouterr().out
    model = build_and_load(Config.fromfile(config), str(checkpoint)).eval()
    bgr = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)
    images = model.data_preprocessor(dict(inputs=[bgr]))['inputs']
    torch.testing.assert_close(torch.from_numpy(names['images']), images)
    with torch.no_grad():
        logits = model.encode_decode(images, [dict(img_shape=(48, 64))])
    assert (names['classes'] == logits.argmax(1).numpy()).mean() > 0.9999
    assert any(name in shown for name in META['mmseg']['classes'])
    options = ('--classes', '--custom-ops', '--overwrite')
    shown = export(monkeypatch, capsys, config, checkpoint, 'model.onnx', *options)
    library = shown.split('Its custom ops are in ')[1].split('\n')[0]
    shutil.copy(library, tmp_path)
    exec(with_library, names)
    found = names['session'].run(None, {'images': names['images']})
    assert (found == names['classes']).mean() > 0.9999


def test_the_memory_of_a_segmentor(tmp_path, monkeypatch, capsys):
    settings = ONE_MAP.replace('spatial=', 'temporal=')
    _, config, checkpoint = make_job('mmseg', tmp_path, settings)
    path = tmp_path / 'model.onnx'
    export(monkeypatch, capsys, config, checkpoint, path, '--classes', '--with-memory')
    layers = json.loads(
        {p.key: p.value for p in onnx.load(path).metadata_props}['memory']
    )
    names = [f'stages.{i}.0' for i in range(2)]
    assert [layer['layer'] for layer in layers] == names
    assert [layer['stride'] for layer in layers] == [4, 8]
    assert layers[0]['first'] == 0
    assert layers[0]['directions'] == [
        'rows', 'columns', 'rows reversed', 'columns reversed',
    ]  # fmt: skip
    images = torch.randn(2, 3, 70, 50)
    found = run(path, images)
    assert len(found) == 1 + 3 * len(layers)
    model, _ = predicted(config, checkpoint, images)
    records = record_memory(model.backbone, images)
    for layer, record in zip(layers, records.values(), strict=True):
        for name, ours in (
            ('places', record.locations),
            ('weights', record.weights),
            ('decays', log_decays(record).flatten(-2)),
        ):
            theirs = torch.from_numpy(found[layer[name]])
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert found['places_0'].shape == (2, 18, 13, 4, 2, 4, 2)
    assert found['classes'].shape == (2, 70, 50)


def test_the_raw_maps_of_a_detector(tmp_path, monkeypatch, capsys):
    config, checkpoint = job('mmdet', tmp_path)
    path = tmp_path / 'model.onnx'
    export(monkeypatch, capsys, config, checkpoint, path, '--size', '64', '96')
    images = torch.randn(2, 3, 70, 50)
    _, (scores, boxes) = predicted(config, checkpoint, images)
    found = run(path, images)
    assert len(found) == len(scores) + len(boxes)
    for i, (score, box) in enumerate(zip(scores, boxes)):
        np.testing.assert_allclose(found[f'cls_score_{i}'], score, atol=1e-5)
        np.testing.assert_allclose(found[f'bbox_pred_{i}'], box, atol=1e-5)
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(props['size']) == [64, 96]


FIVE_MAPS = """
model['neck']['num_outs'] = 5
model['bbox_head']['anchor_generator']['strides'] = [8, 16, 32, 64, 128]
"""


def test_a_pyramid_whose_last_map_is_small_needs_larger_images(
    tmp_path, monkeypatch, capsys
):
    _, config, checkpoint = make_job('mmdet', tmp_path, PYRAMID + FIVE_MAPS)
    path = tmp_path / 'model.onnx'
    arguments = config, checkpoint, path
    said = refusal(monkeypatch, 'export', *arguments, '--size', '64', '96')
    assert 'any size from 33 x 33 pixels: export it with larger' in said
    shown = export(monkeypatch, capsys, *arguments, '--size', '70', '96')
    assert 'takes images of any size from 65 x 65; ' in shown
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(props['smallest']) == 65
    arguments = *arguments, '--overwrite', '--fixed'
    shown = export(monkeypatch, capsys, *arguments, '--size', '64', '40')
    assert 'takes one image of 64 x 40; ' in shown
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert 'smallest' not in props


@pytest.mark.parametrize(
    'config, size, resize',
    [
        ('vmamba_t_imagenet', (224, 224), None),
        ('mask_rcnn_vmamba_t_coco', (800, 1333), 'keep_ratio'),
        ('upernet_vmamba_t_ade20k', (512, 2048), 'keep_ratio'),
        ('upernet_mamba_adaptor_b0_shapes', (128, 128), None),
        ('mamba_adaptor_b0_shapes', None, None),
    ],
)
def test_the_size_of_the_test_is_that_of_its_pipeline(config, size, resize):
    cfg = Config.fromfile(ROOT / 'configs' / f'{config}.py')
    assert size_of_pipeline(cfg) == size
    assert resize_of_pipeline(cfg) == resize
    dataset = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset])
    assert size_of_pipeline(cfg) == size
    assert resize_of_pipeline(cfg) == resize


def heads(**attributes):
    return types.SimpleNamespace(**attributes)


def test_a_cascade_of_heads_is_not_taken_for_a_backbone():
    model = heads(decode_head=[heads(align_corners=False)], extract_feat=print)
    with pytest.raises(InputError, match='with one decode_head.*--features'):
        task_of(model)


def test_a_detector_of_masks_alone_is_not_taken_for_a_backbone():
    model = heads(bbox_head=None, mask_head=heads(), extract_feat=print)
    with pytest.raises(InputError, match='a bbox_head.*--features'):
        task_of(model)


class Head(torch.nn.Conv2d):
    """Returns more than the dense heads do."""

    def forward(self, maps):
        return [[super().forward(maps)]] * 4


class FourParts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bbox_head = Head(3, 3, 1)

    def extract_feat(self, images):
        return images


def test_a_head_that_returns_something_else_is_named():
    model = FourParts()
    with pytest.raises(InputError, match='FourParts cannot be exported: .* at most 3'):
        sample_names(Exported(model, 'detection'), (64, 64), 3)


def test_what_is_refused(tmp_path, monkeypatch):
    """Before anything is built, and with the files as they were."""
    config, checkpoint = job('mmpretrain', tmp_path)
    there = tmp_path / 'there.onnx'
    there.write_bytes(b'old')

    def refused(*arguments):
        return refusal(monkeypatch, 'export', *arguments)

    assert 'there.onnx exists: give another' in refused(config, checkpoint, there)
    new = tmp_path / 'new.onnx'
    assert 'ends with .onnx or .pt2' in refused(config, checkpoint, tmp_path / 'a.pth')
    for option in ('--standard', '--custom-ops'):
        assert '--standard and --custom-ops are for .onnx' in refused(
            config, checkpoint, tmp_path / 'a.pt2', option
        )
    assert '--custom-ops exclude each other' in refused(
        config, checkpoint, new, '--standard', '--custom-ops'
    )
    assert '--classes and --features exclude each other' in refused(
        config, checkpoint, new, '--classes', '--features'
    )
    assert '--classes is for segmentors, got ImageClassifier' in refused(
        config, checkpoint, new, '--classes'
    )
    assert '33 or more rows and columns, got 20 x 64' in refused(
        config, checkpoint, new, '--size', '20', '64'
    )
    assert '--with-memory is for .onnx files' in refused(
        config, checkpoint, tmp_path / 'a.pt2', '--with-memory'
    )
    assert 'ImageClassifier of ' in (
        said := refused(config, checkpoint, new, '--with-memory')
    )
    assert 'runs no block with an Adaptor-T; set adaptors=dict(temporal=' in said
    other, _ = job('mmseg', tmp_path / 'seg')
    text = refused(other, checkpoint, new)
    assert 'does not fit EncoderDecoder' in text
    assert '(mmpretrain)' in text
    assert not new.exists() and there.read_bytes() == b'old'
    assert [*tmp_path.glob('*.part')] == []


@pytest.mark.parametrize('found', [0.5, float('nan')])
def test_a_file_that_differs_replaces_nothing(found, tmp_path, monkeypatch):
    config, checkpoint = job('mmpretrain', tmp_path)
    there = tmp_path / 'there.onnx'
    there.write_bytes(b'old')
    monkeypatch.setattr(
        'mmadaptor.export.onnx.export_onnx',
        lambda model, path, *_: (tmp_path / path).write_bytes(b'new'),
    )
    monkeypatch.setattr(
        'mmadaptor.export.onnx.compare', lambda *_: dict(logits=found, other=0.0)
    )
    said = refusal(monkeypatch, 'export', config, checkpoint, there, '--overwrite')
    assert (
        f'Nothing was written: the exported file differs from torch in logits by {found:.1e}'
        in said
    )
    assert there.read_bytes() == b'old' and not [*tmp_path.glob('*.part*')]


def test_packages_that_are_too_old(tmp_path, monkeypatch, capsys):
    config, checkpoint = job('mmpretrain', tmp_path)
    path = tmp_path / 'model.onnx'
    monkeypatch.setattr(onnxruntime, '__version__', '1.31.2')
    said = refusal(monkeypatch, 'export', config, checkpoint, path)
    assert 'needs onnxruntime 1.32 or later (installed: 1.31.2): ' in said
    assert 'install "onnxruntime>=1.32"' in said
    export(monkeypatch, capsys, config, checkpoint, path, '--custom-ops')
    monkeypatch.setattr(onnxruntime, '__version__', '1.17.3')
    arguments = config, checkpoint, path, '--custom-ops', '--overwrite'
    said = refusal(monkeypatch, 'export', *arguments)
    assert 'needs onnxruntime 1.18 or later (installed: 1.17.3): ' in said
    monkeypatch.setattr(onnx, '__version__', '1.9.0')
    said = refusal(monkeypatch, 'export', *arguments)
    assert 'needs onnx 1.23 or later (installed: 1.9.0), onnxruntime 1.18 or' in said
