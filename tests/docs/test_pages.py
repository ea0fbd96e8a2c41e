# SPDX-License-Identifier: Apache-2.0
"""What the pages tell a reader to run works."""

import re

import pytest
from helpers.jobs import ROOT
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope

from mmadaptor.models import VMamba

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


def fragments():
    """Parts of configs: without a base and without imports."""
    for page in ['boosting', 'tuning']:
        for i, block in enumerate(blocks((DOCS / f'{page}.md').read_text())):
            if '_base_' not in block:
                yield pytest.param(block, id=f'{page}-{i}')


@pytest.mark.parametrize('block', fragments())
def test_part_of_a_config_of_a_page(block, tmp_path):
    """Its backbone and its hooks are built, with the rest of a config."""
    base = ROOT / 'configs' / 'tuning' / 'vmamba_t_full_cub.py'
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {str(base)!r}\n{block}')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    backbone = MODELS.build(cfg.get('backbone', cfg.model.backbone))
    assert isinstance(backbone, VMamba)
    exec(block, told := {})
    hooks = [cfg.default_hooks[name] for name in told.get('default_hooks', ())]
    for hook in hooks + told.get('custom_hooks', []):
        HOOKS.build(hook)


@pytest.mark.parametrize('page', ['README.md', 'docs/quick_start.md'])
def test_predicting_with_a_trained_classifier(page, monkeypatch, capsys):
    """The lines, as they stand there."""
    monkeypatch.chdir(ROOT)
    (block,) = (b for b in blocks((ROOT / page).read_text()) if 'argmax' in b)
    exec(block, {})
    assert capsys.readouterr().out == 'disc_on\n'


def test_predicting_with_the_trained_detector(monkeypatch, capsys):
    pytest.importorskip('mmdet')
    monkeypatch.chdir(ROOT)
    page = (DOCS / 'quick_start.md').read_text()
    (block,) = (b for b in blocks(page) if 'init_detector' in b)
    exec(block, names := {})
    assert capsys.readouterr().out.endswith(f'{names["found"].scores[0]!r}\n')
    assert names['names'][0] in names['detector'].dataset_meta['classes']
    assert names['found'].scores[0] > 0.5


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
