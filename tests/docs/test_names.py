# SPDX-License-Identifier: Apache-2.0
"""Commands, options, files and names in the documentation exist."""

import ast
import importlib.util
import itertools
import os
import re

import pytest
from helpers.commands import COMMANDS, parser_of
from helpers.jobs import ROOT
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS

import mmadaptor.engine  # noqa: F401

HISTORY = ROOT / 'CHANGELOG.md'  # which names what was
DOCS = sorted(
    {
        path
        for pattern in ('*.md', 'docs/**/*.md', 'configs/*.md', 'mmadaptor/**/*.md')
        for path in ROOT.glob(pattern)
    }
    - {HISTORY}
)
OF_INTEGRATIONS = ('peft', 'segmentation_models_pytorch', 'timm', 'transformers')
FOLDERS = ('tests', 'tools', 'configs', 'mmadaptor', 'benchmarks', 'studies', 'docs')
every_page = pytest.mark.parametrize(
    'page', DOCS, ids=lambda p: str(p.relative_to(ROOT))
)


def commands_of(text):
    """Yield the words of each command of ours, in blocks and in lines."""
    text = text.replace('\\\n', ' ')
    lines = [line for line in text.splitlines() if line.startswith('    ')]
    lines += re.findall(r'`([^`]*)`', text.replace('\n', ' '))
    pattern = r'(?:python (?:-m )?|\btools/\w+\.(?:sh|py))[^|;]*'
    for line in lines:
        for found in re.findall(pattern, line.partition(' #')[0]):
            yield re.sub(r'[\'"]', '', found).split()


def file_of(words):
    """Return the file that a command runs; None for another package's."""
    words = words[1:] if words[0] == 'python' else words
    if words and words[0] == '-m' and len(words) > 1:
        name = words[1].replace('.', '/')
        files = [f'{name}.py', f'{name}/__main__.py']
        ours = words[1].split('.')[0] in FOLDERS
    else:
        files = words[:1]
        ours = bool(words) and words[0].split('/')[0] in FOLDERS
    if not ours:
        return None
    there = [file for file in files if (ROOT / file).is_file()]
    assert there, f'{" ".join(words)}: there is no {files[0]}'
    return there[0]


def options_of(file):
    parsers = {str(path): path for path in COMMANDS}
    if file == 'tools/dist_train.sh':
        file = 'tools/train.py'
    if file == 'tools/dist_test.sh':
        file = 'tools/test.py'
    if file not in parsers:
        return None
    return {o for a in parser_of(parsers[file])._actions for o in a.option_strings}


@every_page
def test_commands(page):
    """Files and modules that are run exist, and have the options that are given."""
    for words in commands_of(page.read_text()):
        file = file_of(words)
        known = options_of(file) if file else None
        if known is not None:
            given = {w.split('=')[0] for w in words if re.match(r'--[a-z]', w)}
            assert given <= known, (words, given - known)


def test_commands_are_found():
    text = '    python -m studies parts # x\nand `python tools/train.py CONFIG --amp`'
    assert [*commands_of(text)] == [
        ['python', '-m', 'studies', 'parts'],
        ['python', 'tools/train.py', 'CONFIG', '--amp'],
    ]
    with pytest.raises(AssertionError, match='there is no benchmarks/study.py'):
        file_of(['python', '-m', 'benchmarks.study', 'tuning'])
    assert sum(len([*commands_of(page.read_text())]) for page in DOCS) > 30


def expanded(name):
    """Expand braces as a shell does."""
    parts = re.split(r'\{([^}]*)\}', name)
    choices = [p.split(',') if i % 2 else [p] for i, p in enumerate(parts)]
    return [''.join(choice) for choice in itertools.product(*choices)]


@every_page
def test_files_and_links(page):
    """Of an op's README, files are named below the package too."""
    text = page.read_text()
    links = re.findall(r'\]\((?!http|#)([^)#]+)', text)
    missing = [link for link in links if not os.path.exists(page.parent / link)]
    names = re.findall(rf'`((?:{"|".join(FOLDERS)}|csrc)/[^`\s:]*)`', text)
    for name in itertools.chain.from_iterable(map(expanded, names)):
        name = re.sub('<[^>]*>', '*', name)
        if not any([*ROOT.glob(name)] or [*(ROOT / 'mmadaptor').glob(name)]):
            missing.append(name)
    assert not missing


def absent(module):
    """Return whether a module is of a library that has an environment of its own."""
    library = module.removeprefix('mmadaptor.integrations.').partition('.')[0]
    return library in OF_INTEGRATIONS and not importlib.util.find_spec(library)


@every_page
def test_python_names(page):
    """What is imported in a block exists, and what a config names is registered.

    Blocks for a library that is not installed are run by tests/integrations.
    """
    text = page.read_text()
    for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and not absent(node.module):
                module = importlib.import_module(node.module)
                assert not [a.name for a in node.names if not hasattr(module, a.name)]
    registries = HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS
    names = re.findall(r"'(mmadaptor\.[A-Z]\w+)'", text)
    assert not [n for n in names if not any(r.get(n) for r in registries)]


@every_page
def test_make_targets(page):
    makefile = (ROOT / 'Makefile').read_text().replace('\\\n', ' ')
    targets = re.findall(r'^\.PHONY: (.*)', makefile, re.M)[0]
    told = re.findall(r'(?:`| {4})make ([a-z-]+)', page.read_text())
    assert {*told} <= {*targets.split()}


ROWS = re.findall(
    r'^\| (mm\w+) \| (`.*?`) \|', (ROOT / 'docs/backbones.md').read_text(), re.MULTILINE
)


@pytest.mark.parametrize('toolbox, names', ROWS)
def test_configs_are_of_the_toolbox_of_their_row(toolbox, names):
    pytest.importorskip(toolbox)
    patterns = itertools.chain.from_iterable(
        map(expanded, re.findall(r'`([^`]*)`', names))
    )
    for pattern in patterns:
        files = [*(ROOT / 'configs').glob(pattern)]
        assert files, pattern
        for file in files:
            assert Config.fromfile(file).default_scope == toolbox


def test_every_config_has_a_row():
    told = {
        file
        for _, names in ROWS
        for name in re.findall(r'`([^`]*)`', names)
        for pattern in expanded(name)
        for file in (ROOT / 'configs').glob(pattern)
    }
    there = {*(ROOT / 'configs').glob('*.py'), *(ROOT / 'configs').glob('tuning/*.py')}
    small = ('_shapes', '_fashion', '_trees')
    assert {f.name for f in there - told if not f.stem.endswith(small)} == set()
