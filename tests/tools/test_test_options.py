# SPDX-License-Identifier: Apache-2.0
"""--tta, --out and --show of tools/test.py, as in the toolboxes' own test tools."""

import re
import runpy
import sys

import numpy as np
import pytest
import tifffile
import torch
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    ROOT,
    SEGMENTOR,
    refusal,
    write_coco,
    write_config,
    write_labels,
)
from mmcv import imread
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.fileio import load
from mmengine.registry import MODELS, init_default_scope

from mmadaptor.engine import Runner
from mmadaptor.errors import InputError

TOOL = runpy.run_path(str(ROOT / 'tools' / 'test.py'))
SEED = 'randomness = dict(seed=1)\n'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = write_coco(tmp_path_factory.mktemp('data') / 'data')
    write_labels(root)
    return root


@pytest.fixture
def job(request, data, tmp_path):
    """Return a config and a checkpoint of random weights of its model."""
    path = write_config(tmp_path, request.param, data_root=str(data))
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'random.pth')
    return path, tmp_path / 'random.pth', model.eval()


def run(monkeypatch, config, checkpoint, *arguments):
    """Run the tool in this process; return its runner."""
    runners = []
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)
    monkeypatch.setattr(
        Runner,
        'test',
        lambda self, test=Runner.test: runners.append((self, test(self))),
    )
    work_dir = str(checkpoint.parent / 'work')
    argv = ['test.py', config, str(checkpoint), '--work-dir', work_dir, *arguments]
    monkeypatch.setattr(sys, 'argv', list(map(str, argv)))
    TOOL['main']()
    return runners[0]


def mirrored_means(model, cfg):
    """Average the predictions for each image and its mirror image, by hand."""
    pipeline = Compose([s for s in cfg.test_dataloader.dataset.pipeline])
    for i in range(4):
        sample = pipeline(dict(img_path=f'{cfg.dataset.data_root}/val/{i}.png'))
        means = []
        for flip in (False, True):
            inputs = sample['inputs'].flip(-1) if flip else sample['inputs']
            data = pseudo_collate([dict(sample, inputs=inputs)])
            with torch.no_grad():
                logits = model.test_step(data)[0].seg_logits.data.softmax(0)
            means.append(logits.flip(-1) if flip else logits)
        yield sum(means) / 2


@pytest.mark.parametrize('job', [SEGMENTOR], indirect=True, ids=['mmseg'])
@pytest.mark.parametrize('named', [False, True])
def test_tta_averages_an_image_and_its_mirror_image(job, named, monkeypatch):
    """With a `tta_pipeline` in the config, and without one."""
    config, checkpoint, model = job
    if named:
        with open(config, 'a') as file:
            file.write("""
tta_model = dict(type='SegTTAModel')
tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[
    [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (1., 0.)],
    [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
""")
    cfg = Config.fromfile(config)
    cfg.test_dataloader.dataset.pipeline = [
        step for step in cfg.dataset.pipeline if step.type != 'LoadAnnotations'
    ]
    # So that both classes occur.
    first, second = next(mirrored_means(model, cfg)).log()
    model.decode_head.conv_seg.bias.data[0] -= (first - second).median()
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    out = checkpoint.parent / 'maps'
    runner, metrics = run(monkeypatch, config, checkpoint, '--tta', '--out', str(out))
    assert type(runner.model).__name__ == 'SegTTAModel'
    label = imread(f'{cfg.dataset.data_root}/masks/0.png', 'unchanged')
    hits, differs = [], False
    for i, mean in enumerate(mirrored_means(model, cfg)):
        expected = mean.argmax(0).numpy()
        written = imread(str(out / f'{i}.png'), 'unchanged')
        assert (written == expected).mean() > 0.999  # but for ties
        hits.append((written == label).mean())
        differs |= (expected != expected[:, ::-1]).any()
    assert differs
    assert metrics['aAcc'] == pytest.approx(100 * np.mean(hits), abs=0.01)


@pytest.mark.parametrize('job', [CLASSIFIER], indirect=True, ids=['mmpretrain'])
def test_tta_of_a_classifier_averages_scores(job, monkeypatch):
    config, checkpoint, model = job
    out = checkpoint.parent / 'scores.pkl'
    run(monkeypatch, config, checkpoint, '--tta', '--out', str(out))
    for sample in load(out):
        image = torch.from_numpy(imread(sample['img_path'])).permute(2, 0, 1)
        both = torch.stack([image, image.flip(-1)])
        with torch.no_grad():
            data = model.data_preprocessor(dict(inputs=both))
            scores = model(data['inputs'], mode='tensor')
        torch.testing.assert_close(sample['pred_score'], scores.softmax(1).mean(0))


@pytest.mark.parametrize('job', [DETECTOR], indirect=True, ids=['mmdet'])
def test_tta_of_a_detector_merges_boxes(job, monkeypatch):
    config, checkpoint, _ = job
    runner, metrics = run(monkeypatch, config, checkpoint, '--tta')
    assert type(runner.model).__name__ == 'DetTTAModel'
    assert 'coco/bbox_mAP' in metrics


@pytest.mark.parametrize(
    'job, hook',
    [
        (SEGMENTOR, dict(draw=True, show=True, wait_time=0.5)),
        (DETECTOR, dict(draw=True, show=True, wait_time=0.5, test_out_dir=None)),
        (CLASSIFIER, dict(enable=True, show=True, wait_time=0.5, out_dir=None)),
    ],
    indirect=['job'],
    ids=['mmseg', 'mmdet', 'mmpretrain'],
)
def test_show_turns_on_the_hook(job, hook):
    cfg = Config.fromfile(job[0])
    TOOL['draw'](cfg, None, True, 0.5)
    got = cfg.default_hooks.visualization.to_dict()
    assert {key: got[key] for key in hook} == hook


FLOATS = dict(
    type='LoadImageFromFile',
    color_type='unchanged',
    imdecode_backend='tifffile',
    to_float32=True,
)


@pytest.mark.parametrize(
    'job', [SEGMENTOR, CLASSIFIER], indirect=True, ids=['mmseg', 'mmpretrain']
)
def test_images_that_the_hook_does_not_draw_are_named(job, data, tmp_path, monkeypatch):
    """tifffile's floats, and 13 bands of 16 bits, which OpenCV takes for a strip."""
    config = job[0]
    images = dict(
        floats=np.zeros((48, 64, 3), 'f4'), bands=np.zeros((48, 64, 13), 'u2')
    )
    for name, image in images.items():
        for folder in (f'{name}/disc', f'{name}/box'):
            (tmp_path / folder).mkdir(parents=True)
            tifffile.imwrite(tmp_path / folder / '0.tif', image)
        cfg = Config.fromfile(config)
        cfg.model.backbone.in_channels = image.shape[2]
        cfg.model.data_preprocessor.update(mean=[0.0], std=[1.0])
        dataset = cfg.test_dataloader.dataset
        dataset.update(data_root=str(tmp_path), data_prefix=dict(img_path=name))
        dataset.pipeline[:2] = [FLOATS]
        if cfg.default_scope == 'mmseg':
            dataset.update(img_suffix='.tif', test_mode=True)
            cfg.test_evaluator.update(format_only=True, output_dir=str(tmp_path / 'o'))
        else:
            dataset.pipeline.append(dict(type='PackInputs'))
            dataset.data_prefix = name
            dataset.extensions = ('.tif',)
        path = tmp_path / f'{name}.py'
        cfg.dump(path)
        torch.save(
            dict(state_dict=MODELS.build(cfg.model).state_dict()),
            tmp_path / 'weights.pth',
        )
        arguments = [path, tmp_path / 'weights.pth', '--work-dir', tmp_path / 'work']
        message = refusal(monkeypatch, 'test', *arguments, '--show-dir', tmp_path / 's')
        assert f'{name}/box/0.tif has other values or another size' in message
        assert 'tools/image_demo.py draws' in message
        assert not (tmp_path / 's').exists()


@pytest.mark.parametrize('job', [SEGMENTOR, DETECTOR], indirect=True)
def test_images_that_are_resized_before_their_labels_are_drawn(job, monkeypatch):
    """As in the toolboxes' own test pipelines."""
    config, checkpoint, _ = job
    with open(config, 'a') as file:
        file.write("""
pipeline = test_dataloader['dataset']['pipeline']
test_dataloader['dataset']['pipeline'] = [
    pipeline[0], dict(type='Resize', scale=(96, 96), keep_ratio=True), pipeline[1],
    pipeline[-1]]
visualizer['name'] = 'resized'  # one of this name is one
""")
    out = checkpoint.parent / 'drawn'
    run(monkeypatch, config, checkpoint, '--show-dir', str(out))
    assert len(list(out.rglob('*.png'))) == 4


def test_tta_without_a_toolbox_is_explained():
    cfg = Config(dict(model=dict(type='X'), test_dataloader=dict(dataset=dict())))
    with pytest.raises(InputError, match='--tta needs tta_model='):
        TOOL['augment'](cfg)


@pytest.mark.parametrize('job', [SEGMENTOR], indirect=True, ids=['mmseg'])
def test_out_with_another_suffix_is_explained(job, monkeypatch):
    message = refusal(monkeypatch, 'test', *job[:2], '--out', 'x.json')
    assert 'expected a name that ends in .pkl, or for mmseg a folder' in message


def test_tta_of_datasets_in_a_list():
    parts = [dict(type=kind, pipeline=[dict(type='PackSegInputs')]) for kind in 'AB']
    loader = dict(dataset=dict(type='ConcatDataset', datasets=parts))
    cfg = Config(dict(default_scope='mmseg', model={}, test_dataloader=loader))
    TOOL['augment'](cfg)
    for part in cfg.test_dataloader.dataset.datasets:
        assert [step.type for step in part.pipeline] == ['TestTimeAug']
    cfg.test_dataloader.dataset = dict(type='A')
    with pytest.raises(InputError, match='--tta needs a pipeline'):
        TOOL['augment'](cfg)


@pytest.mark.parametrize(
    'arguments', [['--tta'], ['--out', 'x'], ['--out', 'x.pkl'], []]
)
@pytest.mark.parametrize('job', [SEGMENTOR], indirect=True, ids=['mmseg'])
def test_a_config_without_a_test_is_named(arguments, job, tmp_path, monkeypatch):
    names = ('test_dataloader', 'test_cfg', 'test_evaluator')
    path = write_config(
        tmp_path,
        f"_base_ = '{job[0]}'\n" + ''.join(f'{name} = None\n' for name in names),
        'no_test.py',
    )
    message = refusal(monkeypatch, 'test', path, job[1], *arguments)
    assert re.search(r'no_test\.py: .* test_\w+=dict\(\.\.\.\), got None', message)


def test_the_preprocessor_of_the_model_stays():
    """mmengine gives the one of the top level to the augmented model, which keeps it."""
    cfg = Config.fromfile(ROOT / 'configs' / 'upernet_mamba_adaptor_b1_ade20k.py')
    cfg.model.data_preprocessor.mean = [1.0, 2.0, 3.0]
    TOOL['augment'](cfg)
    assert cfg.model.type == 'SegTTAModel' and 'data_preprocessor' not in cfg
    assert cfg.model.module.data_preprocessor.mean == [1.0, 2.0, 3.0]
    scales = cfg.test_dataloader.dataset.pipeline[1].transforms[0]
    assert [step.scale_factor for step in scales] == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


@pytest.mark.parametrize('job', [SEGMENTOR], indirect=True, ids=['mmseg'])
def test_show_without_a_display_is_refused(job, monkeypatch):
    """It would wait for each image, for a key even, and show none."""
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'agg')
    message = refusal(monkeypatch, 'test', *job[:2], '--show')
    assert '--show needs a display' in message
