# SPDX-License-Identifier: Apache-2.0
"""The pages on training, run as a reader runs them."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from helpers.fork_server import ForkServer
from helpers.jobs import ROOT
from helpers.reference_models import vmamba_shapes, weights
from PIL import Image

DOCS = ROOT / 'docs' / 'train'
PUBLISHED = 'vssm1_tiny_0230s_ckpt_epoch_264.pth'
# Smaller images and shorter trainings, in configs and commands.
SHORTER = dict(
    detection={'(640, 640)': '(64, 64)', 'epochs=12': 'epochs=1', 'h_12': 'h_1'},
    segmentation={
        '(512, 512)': '(64, 64)',
        'max_iters=8000': 'max_iters=2',
        'interval=1000': 'interval=2',
        'iter_8000': 'iter_2',
    },
    classification={'224': '64', 'max_epochs=30': 'max_epochs=1', 'h_30': 'h_1'},
)


def blocks(text):
    return re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def commands(text):
    """Return the indented lines that start a program, as words."""
    text = text.replace('\\\n', ' ')
    lines = re.findall(r'^    ((?:python|tools/|make|pip) .*)$', text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def write_images(folder, names, seed=0):
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for name in names:
        pixels = random.integers(0, 255, (64, 64, 3), np.uint8)
        pixels[8:40, 8:48] = 255
        Image.fromarray(pixels).save(folder / name)


def write_detection(root):
    for split in ('train', 'val'):
        write_images(root / split, ['0.jpg', '1.jpg'])
        content = dict(
            images=[
                dict(id=i, file_name=f'{i}.jpg', height=64, width=64) for i in (0, 1)
            ],
            annotations=[
                dict(
                    id=i + 1,
                    image_id=i,
                    category_id=i + 1,
                    iscrowd=0,
                    bbox=[8, 8, 40, 32],
                    area=40 * 32,
                    segmentation=[[8, 8, 48, 8, 48, 40, 8, 40]],
                )
                for i in (0, 1)
            ],
            categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        )
        (root / f'{split}.json').write_text(json.dumps(content))


def write_segmentation(root):
    for split in ('train', 'val'):
        names = [f'{i}.jpg' for i in range(4)]
        write_images(root / 'images' / split, names)
        masks = root / 'masks' / split
        masks.mkdir(parents=True)
        mask = np.zeros((64, 64), np.uint8)
        mask[8:40, 8:48] = 1
        for i in range(4):
            Image.fromarray(mask).save(masks / f'{i}.png')


def write_classification(root):
    for split in ('train', 'val'):
        for i, name in enumerate(('cat', 'dog')):
            write_images(root / split / name, ['0.jpg', '1.jpg'], seed=i)


@pytest.fixture(scope='module')
def weights_file(tmp_path_factory):
    """A file with the names and shapes of the published classifier."""
    path = tmp_path_factory.mktemp('published') / PUBLISHED
    state = weights(vmamba_shapes(96, (2, 2, 8, 2)))
    torch.save(dict(model={k: v.float() for k, v in state.items()}), path)
    return path


@pytest.mark.parametrize('task', SHORTER)
def test_from_files_to_predictions(task, weights_file, tmp_path, monkeypatch):
    """Configs and commands of a page, as they are written, on a few small images."""
    text = (DOCS / f'{task}.md').read_text()
    for long, short in SHORTER[task].items():
        assert long in text
        text = text.replace(long, short)
    globals()[f'write_{task}'](tmp_path / 'data' / 'mine')
    (tmp_path / PUBLISHED).symlink_to(weights_file)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    configs = re.findall(r'^Save this as `(\w+\.py)`', text, re.MULTILINE)
    code = blocks(text)
    for name, block in zip(configs, code):
        (tmp_path / name).write_text(block)
    words = [w for w in commands(text) if not w[0].startswith('tools/dist_train')]
    assert all(w[1].startswith('tools/') for w in words) and len(words) == 4
    words += [['python', 'tools/train.py', name] for name in configs[1:]]
    server = ForkServer(tmp_path)
    try:
        for _, tool, *arguments in words:
            name = tool.removeprefix('tools/').removesuffix('.py')
            log = tmp_path / f'{name}.log'
            server.start(name, *arguments, log=log)
            assert server.wait() == 0, log.read_text()[-3000:]
    finally:
        server.close()
    drawn = [p.name for p in (tmp_path / 'outputs').rglob('*') if p.suffix == '.jpg']
    assert len(drawn) == (4 if task != 'detection' else 2)
    monkeypatch.chdir(tmp_path)
    for block in code[len(configs) :]:
        exec(block, {})
