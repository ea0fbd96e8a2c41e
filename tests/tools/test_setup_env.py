# SPDX-License-Identifier: Apache-2.0
"""Test that the set-up checks every download, and does again what is needed, alone."""

import errno
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[2]
REQUIREMENTS = ROOT / 'requirements'
HASHES = re.compile(r'(--hash=sha256:[0-9a-f]{64}\s*)+')


@pytest.fixture
def setup_env(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import setup_env

    return setup_env


@pytest.fixture
def empty(setup_env, monkeypatch, tmp_path):
    """The set-up of an empty environment, which starts no process."""
    steps = {}

    class Step:
        def __init__(self, title, key, command, **kwargs):
            steps[key] = command

        def wait(self):
            pass

    monkeypatch.setattr(setup_env, 'VENV', tmp_path)
    monkeypatch.setattr(setup_env, 'Step', Step)
    monkeypatch.setattr(setup_env.subprocess, 'run', lambda *args, **kwargs: None)
    monkeypatch.setattr(setup_env, 'precompile_torch_header', lambda compiler: {})
    monkeypatch.setattr(setup_env, 'check_installation', lambda: None)
    setup_env.set_up()
    return steps


def test_mmcv_has_the_options_of_its_precompiled_header(
    setup_env, monkeypatch, tmp_path
):
    """GCC ignores a precompiled header that was made with others."""
    commands = []

    def run(command, **kwargs):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, stdout='-I/torch')

    monkeypatch.setattr(setup_env, 'VENV', tmp_path)
    monkeypatch.setattr(setup_env.subprocess, 'run', run)
    environment = setup_env.precompile_torch_header(setup_env.write_compiler())
    flags, _, header = environment['CFLAGS'].partition(' -include ')
    compiler, *rest = commands[-1]
    assert compiler == environment['CXX']
    assert rest[: len(flags.split())] == flags.split()
    assert rest[-1] == f'{header}.gch'
    assert pathlib.Path(compiler).read_text().endswith('"$@" -std=c++20\n')


def file_of(command):
    return pathlib.Path(command[-1].removeprefix('--requirement='))


def test_every_pin_has_hashes(setup_env):
    locked = setup_env.locked()
    assert len(locked) > 90
    for requirement, hashes in locked.items():
        assert re.match(r'[a-z0-9-]+==[0-9.]+( ; python_full_version|$)', requirement)
        assert HASHES.fullmatch(hashes), requirement


def test_the_lock_file_has_the_pins_of_its_input(setup_env):
    lines = (REQUIREMENTS / 'lock.in').read_text().splitlines()
    pins = [
        line.replace('python_version', 'python_full_version')
        for line in lines
        if line and not line.startswith('#')
    ]
    assert sorted(pins) == sorted(setup_env.locked())


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12'])
def test_the_requirements_can_be_met(setup_env, python):
    """By the locked versions for that Python, of those that are locked."""
    here = dict(python_version=python, python_full_version=f'{python}.0')
    found = {}
    for pin in map(Requirement, setup_env.pinned()):
        if pin.marker is None or pin.marker.evaluate(here):
            found[pin.name] = str(pin.specifier).removeprefix('==')
    for name in ('runtime', 'build', 'openmmlab', 'det', 'seg', 'cls', 'onnx', 'tests'):
        for line in (REQUIREMENTS / f'{name}.txt').read_text().splitlines():
            if line and not line.startswith('#'):
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate(here):
                    assert found[wanted.name] in wanted.specifier, line


def test_no_file_names_an_index():
    for path in REQUIREMENTS.iterdir():
        assert not re.search(r'://|--(extra-)?index-url|--find-links', path.read_text())


def test_every_download_is_checked(setup_env, empty):
    own = empty.pop('mmadaptor')
    assert {'--no-index', '--no-deps', '--no-build-isolation'} <= set(own)
    installed = []
    for command in empty.values():
        assert {'--require-hashes', '--no-deps', '--no-build-isolation'} <= set(command)
        lines = file_of(command).read_text().splitlines()
        assert all(HASHES.search(line) for line in lines)
        installed += [line.partition(' --hash')[0] for line in lines]
    assert set(installed) == set(setup_env.pinned())
    assert file_of(empty['mmcv']).read_text().startswith('onedl-mmcv==')


def write_wheel(folder):
    """Write a wheel of one module; return its SHA-256."""
    info = 'parcel-1.0.dist-info'
    files = {
        'parcel.py': '',
        f'{info}/METADATA': 'Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n',
        f'{info}/WHEEL': 'Wheel-Version: 1.0\nTag: py3-none-any\n',
        f'{info}/RECORD': '',
    }
    path = folder / 'parcel-1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize('wrong', [False, True])
def test_pip_refuses_a_wrong_hash(setup_env, monkeypatch, tmp_path, wrong):
    digest = write_wheel(tmp_path)
    lock = tmp_path / 'lock.txt'
    lock.write_text(
        f'parcel==1.0 \\\n    --hash=sha256:{"0" * 64 if wrong else digest}'
    )
    monkeypatch.setattr(setup_env, 'LOCK', lock)
    monkeypatch.setattr(setup_env, 'VENV', tmp_path)
    monkeypatch.setattr(setup_env, 'PYTHON', sys.executable)
    offline = ('--dry-run', '--no-index', f'--find-links={tmp_path}')
    done = subprocess.run(
        setup_env.install('test', ['parcel==1.0'], *offline),
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == wrong, done.stderr
    sentence = 'THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE'
    assert (sentence in done.stderr) == wrong


def test_ops_that_were_removed_are_compiled_again(
    setup_env, empty, monkeypatch, tmp_path
):
    """As by `make clean`, which leaves .venv."""
    empty.clear()
    monkeypatch.setattr(setup_env, 'LIBRARY', ROOT / 'setup.py')  # a file that exists
    setup_env.set_up()
    assert not empty
    monkeypatch.setattr(setup_env, 'LIBRARY', tmp_path / 'removed.so')
    setup_env.set_up()
    assert list(empty) == ['mmadaptor']


def test_a_python_that_is_gone_is_replaced(setup_env, empty, monkeypatch, tmp_path):
    python = tmp_path / 'python'
    python.symlink_to('/gone/python')
    commands = []
    monkeypatch.setattr(setup_env, 'PYTHON', python)
    monkeypatch.setattr(
        setup_env.subprocess, 'run', lambda command, **kwargs: commands.append(command)
    )
    setup_env.set_up()
    assert commands == [[sys.executable, '-m', 'venv', '--clear', str(tmp_path)]]


def test_a_folder_that_was_moved_gets_a_new_environment(
    setup_env, empty, monkeypatch, tmp_path
):
    """Scripts such as `activate` name the folder that they were made in."""
    moved = tmp_path / 'moved'
    moved.mkdir()
    for stamp in tmp_path.glob('*.stamp'):
        stamp.rename(moved / stamp.name)
    empty.clear()
    monkeypatch.setattr(setup_env, 'PYTHON', ROOT / 'setup.py')  # a file that exists
    monkeypatch.setattr(setup_env, 'LIBRARY', ROOT / 'setup.py')
    monkeypatch.setattr(setup_env, 'VENV', moved)
    commands = []
    monkeypatch.setattr(
        setup_env.subprocess, 'run', lambda command, **kwargs: commands.append(command)
    )
    setup_env.set_up()
    setup_env.set_up()
    assert commands == [[sys.executable, '-m', 'venv', '--clear', str(moved)]]


@pytest.mark.parametrize('package, kept', [('torch', True), ('pip', False)])
def test_the_environment_of_another_tool(
    setup_env, monkeypatch, tmp_path, package, kept
):
    """Nothing is lost; one with pip alone is what an interrupted set-up leaves."""
    venv = tmp_path / '.venv'
    found = venv / 'lib' / 'python3.11' / 'site-packages' / f'{package}-2.9.0.dist-info'
    found.mkdir(parents=True)
    monkeypatch.setattr(setup_env, 'VENV', venv)
    monkeypatch.setattr(setup_env, 'PYTHON', venv / 'bin' / 'python')

    def no_packages():
        raise setup_env.SetupError('made')

    monkeypatch.setattr(setup_env, 'install_packages', no_packages)
    sentence = 'is another one, with packages such as torch-2.9.0' if kept else 'made'
    with pytest.raises(setup_env.SetupError, match=sentence):
        setup_env.set_up()
    assert found.exists() == kept


def test_a_second_set_up_waits_for_the_first(setup_env, monkeypatch, tmp_path, capsys):
    lock = tmp_path / 'lock.txt'
    lock.touch()
    monkeypatch.setattr(setup_env, 'LOCK', lock)
    order, printed = [], ''

    def set_up():
        with setup_env.alone():
            order.append('second')

    second = threading.Thread(target=set_up)
    with setup_env.alone():
        second.start()
        while second.is_alive() and not printed:
            time.sleep(0.01)
            printed = capsys.readouterr().out
        order.append('first')
    second.join()
    assert order == ['first', 'second']
    assert printed == 'Waiting for another `make env` in this folder.\n'


def test_a_file_system_without_locks(setup_env, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, 'Function not implemented')

    monkeypatch.setattr(setup_env.fcntl, 'flock', flock)
    with setup_env.alone():
        pass


def test_a_log_that_ends_within_a_character(setup_env, monkeypatch, tmp_path):
    """pip writes blocks of bytes, and draws bars of characters of three bytes."""
    monkeypatch.setattr(setup_env, 'VENV', tmp_path)
    write = r"import sys; sys.stdout.buffer.write(b'[6/8] \xe2'); sys.exit(1)"
    step = setup_env.Step('The step', 'tools', [sys.executable, '-c', write])
    with pytest.raises(setup_env.SetupError, match='The step failed'):
        step.wait()
    assert step.seconds_left(elapsed=60) == 20


def test_an_empty_compiler_is_named(setup_env, monkeypatch):
    monkeypatch.setenv('CXX', '')
    with pytest.raises(setup_env.SetupError, match='C\\+\\+ compiler "" not found'):
        setup_env.check_machine()


@pytest.mark.skipif(shutil.which('make') is None, reason='no make')
@pytest.mark.parametrize('newer, again', [('docs', False), ('python', True)])
def test_another_python_makes_the_other_environments_again(newer, again, tmp_path):
    shutil.copy(ROOT / 'Makefile', tmp_path)
    times = dict(pin=1, docs=2, python=2) | {newer: 3}
    for name, file in dict(
        pin='requirements/docs.txt', docs='build/docs/made', python='.venv/python.stamp'
    ).items():
        path = tmp_path / file
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (times[name], times[name]))
    done = subprocess.run(
        ['make', '--dry-run', 'build/docs/made'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ('-m venv --clear build/docs' in done.stdout) == again
