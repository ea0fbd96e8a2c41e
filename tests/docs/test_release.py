# SPDX-License-Identifier: Apache-2.0
"""The files of a release agree with each other and with the package."""

import configparser
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from helpers.jobs import ROOT

from mmadaptor.version import __version__

WORKFLOWS = sorted((ROOT / '.github' / 'workflows').glob('*.yml'))
FORMS = sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml'))


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_version_and_date_are_the_same_everywhere():
    citation = read('CITATION.cff')
    assert citation['version'] == __version__
    history = (ROOT / 'CHANGELOG.md').read_text()
    newest = re.search(r'^## (\d\S*) - (\d{4}-\d\d-\d\d)$', history, re.M)
    assert newest.groups() == (__version__, str(citation['date-released']))


def test_the_paper_is_what_is_cited():
    paper = read('CITATION.cff')['preferred-citation']
    assert paper['title'] in (ROOT / 'README.md').read_text()
    assert paper['url'].endswith('arxiv.org/abs/2505.12685')


def test_tests_run_on_every_supported_python_and_two_versions_of_torch():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    classifiers = setup['metadata']['classifiers']
    jobs = read('.github/workflows/tests.yml')['jobs']
    matrix = jobs['tests']['strategy']['matrix']
    # The toolboxes' packages end with Python 3.12; the wheel does not.
    supported = re.findall(r'Python :: (3\.\d+)', classifiers)
    assert matrix['python'] == [v for v in supported if v != '3.13']
    assert len(matrix['torch']) == 2
    wheels = read('.github/workflows/wheels.yml')['jobs']['install']['strategy']
    assert wheels['matrix']['torch'] == matrix['torch']
    assert {*wheels['matrix']['python']} | {*matrix['python']} == {*supported}


def test_tests_run_with_every_extra():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    commands = '\n'.join(commands_of('.github/workflows/tests.yml'))
    extras = re.search(r"-e '\.\[([\w,]+)\]'", commands)[1].split(',')
    # That of OpenMMLab is a part of three others.
    assert {*extras, 'openmmlab'} == {*setup['options.extras_require']}


def commands_of(workflow):
    for job in read(workflow)['jobs'].values():
        yield from (step['run'] for step in job['steps'] if 'run' in step)


@pytest.mark.parametrize('workflow', WORKFLOWS, ids=lambda path: path.stem)
def test_files_that_workflows_name_exist(workflow):
    commands = [*commands_of(workflow)]
    assert commands
    named = re.findall(
        r'\b(?:requirements|tools|tests|mmadaptor)/\S+', '\n'.join(commands)
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_hooks_run_what_make_lint_runs():
    (local,) = read('.pre-commit-config.yaml')['repos']
    assert local['repo'] == 'local'
    hooks = local['hooks']
    assert {hook['language'] for hook in hooks} == {'system'}  # nothing is downloaded
    makefile = (ROOT / 'Makefile').read_text()
    lint = re.search(r'^lint: env\n((?:\t.*\n)+)', makefile, re.M)[1]
    tools = re.findall(r'\$\(BIN\)/(ruff \w+|\S+)', lint)
    entries = [re.match(r'ruff \w+|\S+', hook['entry'])[0] for hook in hooks]
    assert sorted(entries) == sorted(tools)


def test_forms():
    """As GitHub wants them; that of a bug asks for what the doctor says."""
    forms = {path.stem: read(path) for path in FORMS}
    assert {*forms} == {'bug', 'config', 'feature'}
    del forms['config']
    for form in forms.values():
        assert form['name'] and form['description']
        fields = [field for field in form['body'] if field['type'] != 'markdown']
        assert all(field['attributes']['label'] for field in fields)
        ids = [field['id'] for field in fields]
        assert len(ids) == len({*ids})
    first = next(field for field in forms['bug']['body'] if field['type'] == 'textarea')
    assert 'python -m mmadaptor.doctor' in first['attributes']['description']
    assert first['validations']['required'] is True


def test_what_the_image_copies_exists():
    """And no part of it is what the image leaves out."""
    lines = (ROOT / 'Dockerfile').read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith('COPY')]
    for name in (name for names in copies for name in names):
        assert (ROOT / name).exists(), name


def test_the_image_has_what_names_the_command_for_mmcv(tmp_path):
    """Only what the name needs is copied before: mmcv is compiled once."""
    before, command, _ = re.split(
        r'^RUN (python -c .*) \| bash', (ROOT / 'Dockerfile').read_text(), flags=re.M
    )
    for names in re.findall(r'^COPY (mmadaptor/.*) mmadaptor/$', before, re.M):
        (tmp_path / 'mmadaptor').mkdir()
        for name in names.split():
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    _, *arguments = shlex.split(command)
    # -S: the package of this environment is not found.
    done = subprocess.run(
        [sys.executable, '-S', *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    )
    assert done.stdout.endswith(' onedl-mmcv\n'), done.stderr
