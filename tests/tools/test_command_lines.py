# SPDX-License-Identifier: Apache-2.0
"""Every command: `--help` prints help and does nothing else, wrong values are named."""

import argparse
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from helpers.commands import COMMANDS, parser_of, start
from helpers.jobs import ROOT
from mmengine.config import DictAction

from mmadaptor.errors import InputError

SCRIPTS = sorted(path.name for path in (ROOT / 'tools').glob('*.sh'))
# A file that is opened, or names that are looked up, before anything else is done.
LOOKED_UP = {'config', 'checkpoint', 'image', 'images', 'src', 'folder'}
LOOKED_UP |= {'--tokens', '--block', '--device', '--only', '--checkpoint'}
NONSENSE = ('', ' ', 'nan', '-1', 'x', 'inf')


def test_all_are_found():
    names = {str(path) for path in COMMANDS}
    assert len(names) == 32, names
    assert {
        'tools/export.py',
        'tools/model_zoo.py',
        'benchmarks/ops_cuda.py',
        'studies/__main__.py',
    } <= names
    assert len(SCRIPTS) == 4


@pytest.mark.parametrize('command', COMMANDS, ids=str)
def test_help_does_nothing_else(command, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    parser = parser_of(command)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(['--help'])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert 'usage: ' in shown and len(shown) > 150
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'command', [c for c in COMMANDS if c.parts[0] == 'tools'], ids=str
)
def test_the_example_of_a_tool(command):
    """Its help ends with one, whose options exist."""
    parser = parser_of(command)
    text = parser.format_help().partition('\nexample:\n')[2].replace('\\\n', ' ')
    python, script, *arguments = shlex.split(text)
    assert (python.rstrip('3'), script) == ('python', str(command))
    parser.parse_args(arguments)
    check_configs(text)
    folders = set(re.findall(r'data/shapes/(\w+)', text))
    assert folders <= {'annotations', 'classes', 'images', 'masks'}


def check_configs(text):
    """The configs that a text names exist."""
    for name in re.findall(r'configs/\S+\.py', text):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_of_scripts(script, tmp_path):
    for option in ('-h', '--help'):
        result = subprocess.run(
            [ROOT / 'tools' / script, option],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert result.returncode == 0 and not result.stderr
        example = result.stdout.partition('Example: ')[2]
        assert example.startswith(f'tools/{script} ')
        check_configs(example)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('count', ['0', '-1', 'nan', ''])
def test_a_wrong_number_of_processes(count):
    command = [ROOT / 'tools' / 'dist_train.sh', 'config.py', count]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert f"PROCESSES must be an integer of 1 or more, got '{count}'" in result.stderr


@pytest.mark.parametrize('command', COMMANDS, ids=str)
def test_every_option_refuses_nonsense(command):
    """What argparse itself can tell, it tells, before anything is built."""
    parser = parser_of(command)
    for action in parser._actions:
        name = [*action.option_strings, action.dest][0]
        if action.nargs == 0 or action.help == argparse.SUPPRESS or name in LOOKED_UP:
            continue
        if action.choices is not None or isinstance(action, DictAction):
            continue
        taken = [text for text in NONSENSE if accepts(parser, action, text)]
        if command.stem == 'make_shapes' and action.type is int:
            continue  # make_shapes checks its numbers, see test_shapes.py
        numeric = not accepts(parser, action, 'x') and accepts(parser, action, '1')
        assert not {'', ' '} & {*taken}, (name, taken)
        assert not (numeric and taken), (name, taken)


def accepts(parser, action, text):
    try:
        parser._get_value(action, text)
    except argparse.ArgumentError:
        return False
    return True


@pytest.mark.parametrize('option', ['x', '=3', 'x.y', ''])
def test_a_setting_without_key_or_value_is_named(option, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        start(
            pathlib.Path('tools/get_flops.py'),
            monkeypatch,
            str(ROOT / 'configs' / 'mamba_adaptor_b0_shapes.py'),
            '--cfg-options',
            option,
        )
    said = f'{ended.value.code} {capsys.readouterr().err}'
    assert 'expected KEY=VALUE' in said and repr(option) in said


@pytest.mark.parametrize(
    'tool, before, after',
    [
        ('export', [], ['model.onnx']),
        ('get_flops', [], None),
        ('image_demo', ['trained/disc_on.png'], []),
        ('merge_adaptors', [], ['whole.pth']),
        ('visualize_memory', ['trained/disc_on.png'], []),
    ],
)
def test_a_wrong_argument_of_the_model_is_named(tool, before, after, monkeypatch):
    model = [] if after is None else ['trained/mamba_adaptor_b0_shapes.safetensors']
    config = 'configs/mamba_adaptor_b0_shapes.py'
    arguments = [*before, config, *model, *(after or [])]
    options = ['--cfg-options', 'model.backbone.nope=3']
    monkeypatch.setattr(sys, 'argv', [tool, *arguments, *options])
    main = runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'))['main']
    with pytest.raises(InputError, match="`model` of the config: .*argument 'nope'"):
        main()
