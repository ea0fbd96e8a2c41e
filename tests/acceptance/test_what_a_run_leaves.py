# SPDX-License-Identifier: Apache-2.0
"""Config and checkpoint of a run in the toolboxes' own inferencers and tools."""

import runpy
import sys
import time

import numpy as np
import pytest
import torch
from helpers import toolboxes as t
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmadaptor import engine
from mmadaptor.datasets import make_shapes

IMAGE = 'data/shapes/images/val/000000.png'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Train one epoch in each toolbox; return the folder of the runs."""
    folder = tmp_path_factory.mktemp('left')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Runner, '_log_env', lambda *_: None)  # slow: it runs compilers
        make_shapes('data/shapes', train=8, val=2, workers=1)
        for toolbox in t.TOOLBOXES:
            cfg = Config.fromfile(t.write_config(folder, toolbox, f'job_{toolbox}'))
            cfg.merge_from_dict(
                {
                    'work_dir': toolbox,
                    'experiment_name': f'left_{toolbox}',
                    'train_cfg.max_epochs': 1,
                    'train_dataloader.num_workers': 0,
                    'val_dataloader.num_workers': 0,
                    'test_dataloader.num_workers': 0,
                }
            )
            engine.Runner.from_cfg(cfg).train()
    return folder


@pytest.fixture
def at(runs, monkeypatch):
    """Work in the folder of the runs; return the files of a toolbox's run."""
    monkeypatch.chdir(runs)
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)
    DefaultScope._instance_dict.clear()

    def files(toolbox):
        return f'{toolbox}/job_{toolbox}.py', f'{toolbox}/epoch_1.pth'

    return files


@pytest.fixture
def tool(monkeypatch):
    """Run a tool that a toolbox installs, in this process."""

    def run(toolbox, name, *arguments):
        path = t.tools_of(toolbox) / f'{name}.py'
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(path.parent))
        runpy.run_path(str(path), run_name='__main__')

    return run


def test_files(at):
    assert {str(type(torch.load(at(box)[1]))) for box in t.TOOLBOXES} == {
        "<class 'dict'>"
    }
    config, _ = at('mmseg')
    read = Config.fromfile(config)
    # As visualization_cam.py reads it.
    assert read.data_preprocessor['mean'] == read.model.data_preprocessor.mean


def test_a_detector_predicts_with_the_config_or_the_checkpoint_alone(at):
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    config, checkpoint = at('mmdet')
    found = [
        DetInferencer(**arguments, weights=checkpoint, device='cpu')(IMAGE)
        for arguments in (
            dict(model='job_mmdet.py'),
            dict(model=config),
            dict(model=None),
        )
    ]
    first, *others = [each['predictions'][0] for each in found]
    assert len(first['scores']) > 0 and 'masks' in first
    for other in others:
        assert other['scores'] == first['scores']
        assert other['bboxes'] == first['bboxes']
    pixels = np.zeros((64, 64, 3), np.uint8)
    model = init_detector(config, checkpoint, device='cpu')
    assert inference_detector(model, pixels).pred_instances.scores.ndim == 1


def test_a_segmentor_predicts_with_the_config_or_the_checkpoint_alone(at):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    config, checkpoint = at('mmseg')
    maps = [
        MMSegInferencer(model, checkpoint, device='cpu')(IMAGE)['predictions']
        for model in ('job_mmseg.py', config, None)
    ]
    assert maps[0].shape == (128, 128)
    np.testing.assert_array_equal(maps[1], maps[0])
    np.testing.assert_array_equal(maps[2], maps[0])
    result = inference_model(init_model(config, checkpoint, device='cpu'), IMAGE)
    np.testing.assert_array_equal(result.pred_sem_seg.data[0].numpy(), maps[0])


def test_a_classifier_predicts_and_gives_features(at):
    from mmpretrain import FeatureExtractor, ImageClassificationInferencer

    config, checkpoint = at('mmpretrain')
    first, second = (
        ImageClassificationInferencer(model, checkpoint, device='cpu')(IMAGE)[0]
        for model in ('job_mmpretrain.py', config)
    )
    assert first['pred_scores'].shape == (6,)
    np.testing.assert_array_equal(second['pred_scores'], first['pred_scores'])
    (features,) = FeatureExtractor(config, checkpoint, device='cpu')(IMAGE)[0]
    assert features.shape == (256,)


def test_the_tools_of_mmdet(at, tool, runs):
    config, checkpoint = at('mmdet')
    tool(
        'mmdet', 'test', config, checkpoint, '--out', 'det.pkl', '--work-dir', 'tested'
    )
    assert len(load('det.pkl')) == 2
    tool('mmdet', 'analysis_tools/confusion_matrix', config, 'det.pkl', 'matrix')
    assert (runs / 'matrix' / 'confusion_matrix.png').exists()


def test_the_tools_of_mmseg(at, tool, runs):
    """Also --tta, for which the config has a model and this test a pipeline."""
    config, checkpoint = at('mmseg')
    tool('mmseg', 'test', config, checkpoint, '--out', 'maps', '--work-dir', 'tested')
    assert len(list((runs / 'maps').glob('*.png'))) == 2
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    transforms = [flips, [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]]
    read = Config.fromfile(config)
    read.tta_pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='TestTimeAug', transforms=transforms),
    ]
    read.experiment_name = 'left_tta'
    read.dump('tta.py')
    tool('mmseg', 'test', 'tta.py', checkpoint, '--tta', '--work-dir', 'tested')


def test_the_tools_of_mmpretrain(at, tool, runs):
    config, checkpoint = at('mmpretrain')
    out = ['--work-dir', 'tested', '--out', 'cls.pkl']
    tool('mmpretrain', 'test', config, checkpoint, *out)
    scores = [sample['pred_score'] for sample in load('cls.pkl')]
    assert scores[0].shape == (6,)
    matrix = 'analysis_tools/confusion_matrix'
    tool('mmpretrain', matrix, config, 'cls.pkl', '--show-path', 'cls.png')
    assert (runs / 'cls.png').exists()


@pytest.mark.parametrize('toolbox', t.TOOLBOXES)
def test_vis_scheduler_draws_rates(toolbox, at, tool, runs):
    path = runs / f'rates_{toolbox}.png'
    arguments = ['--dataset-size', 8, '--not-show', '--save-path', path]
    config, _ = at(toolbox)
    tool('mmpretrain', 'visualization/vis_scheduler', config, *arguments)
    assert path.exists()


PUBLISH = dict(
    mmdet='model_converters/publish_model',
    mmseg='misc/publish_model',
    mmpretrain='model_converters/publish_model',
)


@pytest.mark.parametrize('toolbox', t.TOOLBOXES)
def test_publish_model_keeps_the_weights(toolbox, at, tool, runs):
    _, checkpoint = at(toolbox)
    folder = runs / f'published_{toolbox}'
    folder.mkdir()
    tool(toolbox, PUBLISH[toolbox], checkpoint, folder / 'model.pth')
    end = time.monotonic() + 20
    while not (paths := list(folder.glob('model*-*.pth'))):
        assert time.monotonic() < end  # a process of the tool renames the file
        time.sleep(0.01)
    (path,) = paths
    published, trained = torch.load(path), torch.load(checkpoint)
    assert 'optimizer' not in published
    for name, value in trained['state_dict'].items():
        assert torch.equal(published['state_dict'][name], value)
