# SPDX-License-Identifier: Apache-2.0
"""One wheel for several versions of Python and torch; run by `make test-wheel`.

Each environment is fresh, downloads its torch, and passes the tests of the CPU ops with
the wheel in dist/, away from this checkout.
"""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# The oldest torch, the newest that pip finds, and some between.
ENVIRONMENTS = {
    'oldest': ('3.10', 'torch==2.10.0'),
    'locked': ('3.11', 'torch==2.11.0'),
    'between': ('3.12', 'torch==2.13.0'),
    'newest': ('3.13', 'torch'),
}
OPS = (
    'cross_selective_scan',
    'derivatives',
    'dilated_depthwise',
    'extension',
    'flops',
    'memory_readout',
    'memory_select',
    'selective_scan',
)
# What the library may take from torch: the functions of its stable ABI, which are C.
STABLE = re.compile(r'(aoti_torch_|torch_)\w+$')
SYSTEM = re.compile(
    r'(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+$|_ITM_|__gmon_start__|__tls_get_addr'
)


def run(command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, **options
    )
    assert done.returncode == 0, (
        f'{command} failed:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}'
    )
    return done.stdout


def only(pattern):
    found = list((ROOT / 'dist').glob(pattern))
    assert len(found) == 1, f'{pattern}: {found}; run `make wheel` first'
    return found[0]


@pytest.fixture(scope='session')
def wheel():
    return only('*.whl')


@pytest.fixture(scope='session')
def library(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    with zipfile.ZipFile(wheel) as archive:
        return archive.extract('mmadaptor/libmmadaptor.so', folder)


def python_of(version):
    """An interpreter of this version, of pyenv or in PATH."""
    for root in (pathlib.Path(os.environ.get('PYENV_ROOT', '~/.pyenv')).expanduser(),):
        for path in sorted(root.glob(f'versions/{version}.*/bin/python')):
            return path
    path = shutil.which(f'python{version}')
    if path is None:
        pytest.skip(f'no Python {version} here')
    return path


@pytest.fixture
def environment(tmp_path):
    """A folder for an environment, which goes after the test: it takes several GB."""
    free = shutil.disk_usage(tmp_path).free
    if free < 8e9:
        pytest.fail(
            f'{tmp_path} has {free / 1e9:.1f} GB free, and an environment needs 8'
        )
    yield tmp_path / 'env'
    shutil.rmtree(tmp_path / 'env', ignore_errors=True)


def make_environment(folder, version, *packages):
    run([python_of(version), '-m', 'venv', folder])
    python = folder / 'bin' / 'python'
    install(python, *packages)
    return python


def install(python, *arguments):
    run([python, '-m', 'pip', 'install', '--quiet', *arguments], cwd='/')


def test_the_wheel_is_for_every_python_and_small(wheel):
    assert re.fullmatch(
        r'mmadaptor-[\d.]+(\+cu\d+)?-py3-none-manylinux_2_\d+_\w+\.whl', wheel.name
    )
    assert wheel.stat().st_size < 30e6
    with zipfile.ZipFile(wheel) as archive:
        libraries = [n for n in archive.namelist() if n.endswith('.so')]
        (name,) = (n for n in archive.namelist() if n.endswith('dist-info/METADATA'))
        metadata = email.message_from_bytes(archive.read(name))
    assert sorted(libraries) == [
        'mmadaptor/libmmadaptor.so',
        'mmadaptor/libmmadaptor_onnxruntime.so',
    ]
    needed = [r for r in metadata.get_all('Requires-Dist') if 'extra' not in r]
    assert sorted(re.split(r'[<>=]', r)[0] for r in needed) == [
        'numpy',
        'safetensors',
        'torch',
    ]


def test_the_library_takes_the_stable_abi_alone(library):
    symbols = run(['nm', '--dynamic', '--undefined-only', library]).split('\n')
    names = [line.split()[-1] for line in symbols if line]
    from_torch = [n for n in names if '@' not in n and not SYSTEM.search(n)]
    assert len(from_torch) > 10
    assert [n for n in from_torch if not STABLE.match(n)] == []
    assert [n for n in names if '@' in n and not SYSTEM.search(n)] == []
    # Nothing of it can clash with another library.
    defined = run(['nm', '--dynamic', '--defined-only', library]).split('\n')
    assert [line for line in defined if 'mmadaptor' in line] == []


def test_the_library_for_onnxruntime_needs_the_system_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract('mmadaptor/libmmadaptor_onnxruntime.so', tmp_path)
    symbols = run(['nm', '--dynamic', '--undefined-only', path]).split('\n')
    names = [line.split()[-1] for line in symbols if line]
    assert [n for n in names if not SYSTEM.search(n)] == []
    defined = run(['nm', '--dynamic', '--defined-only', path]).split('\n')
    assert 'RegisterCustomOps' in {line.split()[-1] for line in defined if line}
    assert [line for line in defined if 'mmadaptor' in line] == []


@pytest.mark.parametrize('tag', ['', 'cu130'])
def test_a_wheel_of_the_sdist_has_the_tag_of_its_cuda(tag, tmp_path):
    with tarfile.open(only('*.tar.gz')) as archive:
        archive.extractall(tmp_path, filter='data')
    (source,) = tmp_path.iterdir()
    environment = dict(os.environ, FORCE_CUDA='0', MMADAPTOR_LOCAL_VERSION=tag)
    run([sys.executable, 'setup.py', 'egg_info'], cwd=source, env=environment)
    version = email.message_from_bytes(
        (source / 'mmadaptor.egg-info' / 'PKG-INFO').read_bytes()
    )['Version']
    assert re.fullmatch(r'[\d.]+' + (rf'\+{tag}' if tag else ''), version)


def copy_tests(folder):
    """The tests without the package, so that the installed one is imported."""
    for name in ('tests', 'benchmarks'):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns('__pycache__', 'results'),
        )
    shutil.copy(ROOT / 'pyproject.toml', folder)
    return [folder / 'tests' / 'ops' / f'test_{op}.py' for op in OPS]


def pass_tests(python, folder):
    files = copy_tests(folder)
    statement = 'import mmadaptor.ops as m; print(m.__file__)'
    where = run([python, '-c', statement], cwd=folder).strip()
    assert where.startswith(str(python.parents[1])), where
    out = run([python, '-m', 'pytest', '-v', '-n', '2', *files], cwd=folder)
    passed = int(re.search(r'(\d+) passed', out)[1])
    assert passed > 300, out[-2000:]
    return passed


@pytest.mark.parametrize('name', ENVIRONMENTS)
def test_the_ops_pass_their_tests(name, wheel, environment, tmp_path, capsys):
    version, torch = ENVIRONMENTS[name]
    python = make_environment(environment, version, torch)
    install(python, wheel)
    statement = 'import mmadaptor.models, torch; print(torch.__version__)'
    found = run([python, '-c', statement], cwd='/').strip()
    install(python, 'numpy', 'pytest', 'pytest-xdist')
    passed = pass_tests(python, tmp_path)
    with capsys.disabled():
        sys.stdout.write(f'\nPython {version}, torch {found}: {passed} tests passed\n')


def test_the_sdist_builds_where_there_is_a_compiler(tmp_path):
    """Beside the torch of the development environment, for its headers."""
    run([sys.executable, '-m', 'venv', '--system-site-packages', tmp_path / 'env'])
    python = tmp_path / 'env' / 'bin' / 'python'
    site = run(
        [python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']
    ).strip()
    parent = run([sys.executable, '-c', 'import torch; print(torch.__file__)']).strip()
    packages = pathlib.Path(parent).parents[1]
    pathlib.Path(site, 'parent.pth').write_text(f'{packages}\n')
    install(python, '-r', ROOT / 'requirements' / 'build.txt')
    install(
        python,
        '--no-index',
        '--no-deps',
        '--no-build-isolation',
        '--ignore-installed',
        only('*.tar.gz'),
    )
    statement = 'import mmadaptor.ops as m; print(m.__file__, m._extension.PROBLEM)'
    found = run([python, '-c', statement], cwd='/').strip()
    assert found.startswith(site) and found.endswith('None'), found
