# SPDX-License-Identifier: Apache-2.0
"""The weights in `trained/`: what its page says of them, and what they predict."""

import hashlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.jobs import ROOT
from mmengine.config import Config
from PIL import Image

from mmadaptor.datasets.draw import draw, draw_background
from mmadaptor.datasets.shapes import make_scene, make_shapes
from mmadaptor.engine.runner import Runner

FOLDER = ROOT / 'trained'
ROW = re.compile(
    r'^\| `(\w+)\.safetensors` \|.* ([\d.]+) \| `([0-9a-f]{64})` \|$', re.M
)
ROWS = {name: rest for name, *rest in ROW.findall((FOLDER / 'README.md').read_text())}
METRICS = dict(
    mask_rcnn_mamba_adaptor_b0_shapes=('coco/bbox_mAP', 100),
    upernet_mamba_adaptor_b0_shapes=('mIoU', 1),
    mamba_adaptor_b0_shapes=('accuracy/top1', 1),
)
IMAGES = 30  # of the 300 to validate


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    make_shapes(folder / 'data' / 'shapes', train=1, val=IMAGES, workers=1)
    return folder


def test_the_page_names_each_file_and_its_digest():
    assert {path.stem for path in FOLDER.glob('*.safetensors')} == set(ROWS)
    assert set(METRICS) == set(ROWS)
    for name, (_, digest) in ROWS.items():
        content = (FOLDER / f'{name}.safetensors').read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.parametrize('name', METRICS)
def test_it_predicts_as_well_as_the_page_says(name, dataset, monkeypatch):
    """On a tenth of the images, so only about."""
    monkeypatch.chdir(dataset)
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.merge_from_dict(
        dict(
            embedded_dataset=None,
            load_from=str(FOLDER / f'{name}.safetensors'),
            work_dir=f'work_dirs/{name}',
        )
        | {
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
        }
    )
    metric, points = METRICS[name]
    found = points * Runner.from_cfg(cfg).test()[metric]
    assert found == pytest.approx(float(ROWS[name][0]), abs=10)


COMMANDS = re.findall(
    r'^    python (.+?[^\\])$', (FOLDER / 'README.md').read_text(), re.M | re.S
)


@pytest.mark.parametrize('command', COMMANDS)
def test_the_commands_of_the_page(command, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    tool, *arguments = shlex.split(command.replace('\\\n', ' '))
    monkeypatch.setattr(sys, 'argv', [tool, *arguments, '--out-dir', str(tmp_path)])
    runpy.run_path(tool, run_name='__main__')
    (drawn,) = tmp_path.rglob('*.png')
    assert drawn.name == Path(arguments[0]).name


def test_its_images_are_those_of_the_dataset():
    scenes = {number: make_scene(0, 'val', number) for number in (4, 11, 17)}
    disc = scenes[11].layers[4]
    assert scenes[11].label(disc) == 'disc_on'
    images = {f'scene_{number}': scene for number, scene in scenes.items()}
    images['disc_on'] = scenes[11].alone(disc)
    assert {path.stem for path in FOLDER.glob('*.png')} == set(images)
    for name, scene in images.items():
        expected = draw(scene, draw_background(scene.background))
        assert np.array_equal(np.asarray(Image.open(FOLDER / f'{name}.png')), expected)
