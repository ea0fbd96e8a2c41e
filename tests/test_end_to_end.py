# SPDX-License-Identifier: Apache-2.0
"""The main job as a user types it, on a handful of images."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmadaptor.datasets import make_shapes

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / 'configs' / 'mask_rcnn_mamba_adaptor_b0_shapes.py'
CLASSIFIER = ROOT / 'configs' / 'mamba_adaptor_b0_shapes.py'
SEGMENTOR = ROOT / 'configs' / 'upernet_mamba_adaptor_b0_shapes.py'
SHORT = [
    '--cfg-options',
    'train_cfg.max_epochs=2',
    'param_scheduler.1.T_max=2',
    'param_scheduler.0.end=2',
]


def start(tool, folder, *arguments, config=CONFIG):
    """A tool in a process group of its own, run in a folder with data/."""
    return subprocess.Popen(
        [sys.executable, ROOT / 'tools' / f'{tool}.py', config, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('user')
    make_shapes(folder / 'data' / 'shapes', train=16, val=3, workers=1)
    finish(start('train', folder, '--work-dir', 'unbroken', *SHORT))
    return folder


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_training_and_testing_leave_what_the_readme_says(folder):
    assert (folder / 'unbroken' / 'curves.png').stat().st_size > 0
    output = finish(
        start(
            'test',
            folder,
            'unbroken/epoch_2.pth',
            '--work-dir',
            'tested',
            '--show-dir',
            'images',
        )
    )
    assert re.search(r'Average Precision .*IoU=0.50:0.95.* = ', output)
    assert re.search(r'coco/bbox_mAP: -?[\d.]+ .*coco/segm_mAP: ', output)
    assert len(list((folder / 'images').glob('*.png'))) == 3


def test_killed_and_resumed_ends_with_the_same_weights(folder):
    killed = folder / 'killed'
    process = start('train', folder, '--work-dir', killed, *SHORT)
    while not (killed / 'last_checkpoint').exists():
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / 'epoch_2.pth').exists()
    output = finish(start('train', folder, '--work-dir', killed, '--resume', *SHORT))
    assert 'resumed epoch: 1' in output
    expected, resumed = (
        weights(folder / run / 'epoch_2.pth') for run in ('unbroken', 'killed')
    )
    assert list(expected) == list(resumed)
    assert all(torch.equal(expected[k], resumed[k]) for k in expected)


@pytest.fixture(scope='module')
def classifier(folder):
    """The checkpoint of a classifier that was trained a little."""
    finish(
        start(
            'train',
            folder,
            '--work-dir',
            'classifier',
            '--cfg-options',
            'train_cfg.max_epochs=1',
            config=CLASSIFIER,
        )
    )
    return folder / 'classifier' / 'epoch_1.pth'


def test_a_classifier_leaves_its_confusion_matrix(folder, classifier):
    assert (folder / 'classifier' / 'curves.png').stat().st_size > 0
    output = finish(
        start(
            'test',
            folder,
            classifier,
            '--work-dir',
            'classifier_tested',
            '--show-dir',
            'classified',
            config=CLASSIFIER,
        )
    )
    assert re.search(r'accuracy/top1: [\d.]+', output)
    assert (folder / 'classifier_tested' / 'confusion_matrix.png').stat().st_size > 0
    pictures = len(list((folder / 'data/shapes/classes/val').rglob('*.png')))
    assert len(list((folder / 'classified').glob('*.png'))) == pictures


def test_a_segmentor_starts_from_the_classifier(folder, classifier):
    output = finish(
        start(
            'train',
            folder,
            '--work-dir',
            'segmentor',
            '--cfg-options',
            'train_cfg.max_epochs=1',
            'optim_wrapper.optimizer.lr=0.',
            'param_scheduler.1.eta_min=0.',
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={classifier}',
            'model.backbone.init_cfg.prefix=backbone.',
            config=SEGMENTOR,
        )
    )
    assert re.search(r'mIoU: [\d.]+', output)
    # At a rate of zero a training changes nothing.
    got = weights(folder / 'segmentor' / 'epoch_1.pth')
    for key, value in weights(classifier).items():
        if key.startswith('backbone.'):
            assert torch.equal(got[key], value), key
    output = finish(
        start(
            'test',
            folder,
            'segmentor/epoch_1.pth',
            '--work-dir',
            'segmentor_tested',
            '--show-dir',
            'segmented',
            config=SEGMENTOR,
        )
    )
    assert re.search(r'mIoU: [\d.]+', output)
    assert len(list((folder / 'segmented').glob('*.png'))) == 3
