# SPDX-License-Identifier: Apache-2.0
"""What the pages tell a reader to run works."""

import re

import pytest
import torch
from helpers.jobs import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

DOCS = ROOT / 'docs'


def blocks(text):
    return re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize('page', ['adaptors', 'backbones', 'ops/index', 'quick_start'])
def test_code_of_a_page(page):
    """Blocks that are no configs and need no trained model."""
    text = (DOCS / f'{page}.md').read_text()
    text = re.sub(r'<!-- predict -->.*?^```$', '', text, flags=re.DOTALL | re.MULTILINE)
    code = [block for block in blocks(text) if '_base_' not in block]
    assert code
    for block in code:
        exec(block, {})


def config_blocks():
    for page in [
        'README.md',
        'docs/backbones.md',
        'docs/boosting.md',
        'docs/weights.md',
    ]:
        for i, block in enumerate(blocks((ROOT / page).read_text())):
            if '_base_' in block:
                yield pytest.param(block, id=f'{page}-{i}')


@pytest.mark.parametrize('block', config_blocks())
def test_config_of_a_page(block, tmp_path):
    """It is read, and its model is built."""
    path = tmp_path / 'config.py'
    path.write_text(block.replace("_base_ = 'mask", f"_base_ = '{ROOT}/configs/mask"))
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    MODELS.build(cfg.model)


def test_predicting_with_a_trained_classifier(tmp_path, monkeypatch):
    """The lines of the README and of the quick start, with a model that was saved."""
    from mmadaptor.datasets import make_shapes
    from mmadaptor.models import create_classifier

    monkeypatch.chdir(tmp_path)
    make_shapes(tmp_path / 'data' / 'shapes', train=1, val=16, workers=1)
    (tmp_path / 'work_dirs/demo_cls').mkdir(parents=True)
    state = create_classifier('mamba_adaptor_b0', num_classes=6).state_dict()
    torch.save(dict(state_dict=state), 'work_dirs/demo_cls/epoch_2.pth')
    for page in ('README.md', 'docs/quick_start.md'):
        (block,) = (b for b in blocks((ROOT / page).read_text()) if 'argmax' in b)
        names = {}
        exec(block, names)
        assert names['image'].shape == (3, 128, 128)


TROUBLES = re.findall(
    r'^\| `(.+?)`', (DOCS / 'troubleshooting.md').read_text(), re.MULTILINE
)


@pytest.mark.parametrize('message', TROUBLES)
def test_a_message_exists(message):
    """The texts that a reader searches for are those of the sources."""
    sources = (path.read_text() for path in (ROOT / 'mmadaptor').rglob('*.py'))
    assert any(message in text for text in sources)


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150
