# SPDX-License-Identifier: Apache-2.0
"""The doctor in environments of stub packages: the sentence and command of each fault."""

import configparser
import importlib.util
import json
import os
import pathlib
import re
import shlex
import struct
import subprocess
import sys
import sysconfig

import pytest
from helpers.jobs import ROOT

from mmadaptor import doctor, environment

# Without torch our own ops cannot be imported: stubs stand for them too.
CODE = """
import pathlib, sys, types
del sys.argv[1]  # what lets mmadaptor import itself without its models
def stub(name, **content):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)
def require():
    pass
library = pathlib.Path('/dev/null')
extension = types.SimpleNamespace(require=require, HAS_CUDA=False, LIBRARY=library)
stub('mmadaptor.ops', _extension=extension)
stub('mmadaptor.models')
{more}
from mmadaptor import doctor
sys.exit(doctor.main())
"""
TORCH = """
import types
__version__ = '2.11.0+cu130'
version = types.SimpleNamespace(cuda='13.0')
capabilities = []
cuda = types.SimpleNamespace(
    is_available=lambda: {gpu},
    device_count=lambda: len(capabilities),
    get_device_capability=lambda i: capabilities[i],
    get_device_name=lambda i: f'GPU{{i}}',
)
cpu = types.SimpleNamespace(get_cpu_capability=lambda: 'AVX2')
backends = types.SimpleNamespace(cpu=cpu)
"""
OPS = """
from .. import _ext
def get_compiler_version(): return 'GCC 12.2'
def get_compiling_cuda_version(): return 'not available'
"""
VERSIONS = {
    'torch': '2.11.0',
    'torchvision': '0.26.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
}
FILES = {
    'torch/__init__.py': TORCH.format(gpu=False),
    'torch/include/ATen/ATen.h': '#error C++17 or later compatible compiler',
    'torchvision/__init__.py': '',
    'mmengine/__init__.py': "__version__ = '0.10.12'",
    'mmcv/__init__.py': "__version__ = '2.3.6'",
    'mmcv/_ext.py': '',
    'mmcv/ops/__init__.py': OPS,
    'mmdet/__init__.py': '',
    **dict.fromkeys(['pkg_resources.py', 'wheel.py', 'ninja.py', 'psutil.py'], ''),
    'pip.py': '',
}
MMCV = 'pip install --no-cache-dir --no-build-isolation onedl-mmcv'
MMCV_AGAIN = (
    'pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation '
    'onedl-mmcv'
)


def examine(site, files=(), versions=(), more='', arguments=(), **env):
    """Run the doctor among stubs; None removes a file or a distribution."""
    for name, text in {**FILES, **dict(files)}.items():
        if text is not None:
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)
    for name, version in {**VERSIONS, **dict(versions)}.items():
        if version is not None:
            info = site / f'{name.replace("-", "_")}-{version}.dist-info'
            info.mkdir(parents=True, exist_ok=True)
            metadata = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
            (info / 'METADATA').write_text(metadata)
    env = {'CXX': sys.executable, **env, 'PYTHONPATH': f'{site}:{ROOT}'}
    # -S: nothing of the real environment is found.
    code = CODE.format(more=more)
    command = [sys.executable, '-S', '-c', code, 'mmadaptor.doctor', *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **env}, cwd=site
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.replace(f'{sys.executable} -m pip', 'pip')


def problems_of(*args, **kwargs):
    code, text = examine(*args, **kwargs, arguments=['--json'])
    found = json.loads(text)['problems']
    assert code == bool(found)
    return found


@pytest.fixture
def site(tmp_path):
    return tmp_path / 'site-packages'


def test_no_problem(site):
    code, text = examine(site)
    assert code == 0
    assert text.endswith('\nNo problems found\n')
    lines = dict(line.split('  ', 1) for line in text.splitlines() if '  ' in line)
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines['torch'] == '2.11.0+cu130, no GPU'
    assert lines['mmcv'] == '2.3.6 (onedl-mmcv)'
    assert lines['mmseg'] == 'not installed'
    assert lines["mmcv's ops"] == 'GCC 12.2, CUDA not available'
    assert lines["mmadaptor's ops"] == 'AVX2 in use, no CUDA'
    assert lines['mmadaptor'] == f'0.1.0 (in {ROOT})'


def test_the_ops_need_torch_alone(site):
    files = {name: None for name in FILES if name.startswith('mm')}
    versions = {name: None for name in VERSIONS if name.startswith('onedl')}
    assert problems_of(site, files, versions) == []


def test_problems_are_numbered_and_the_exit_code_is_1(site):
    gone = {'mmengine/__init__.py': None, 'mmcv/__init__.py': None}
    code, text = examine(site, gone, {'onedl-mmengine': None, 'onedl-mmcv': None})
    assert code == 1
    assert text.endswith(
        '2 problems found\n'
        '  1. mmengine is not installed: pip install onedl-mmengine\n'
        f'  2. mmcv is not installed: {MMCV}\n'
        'Run this again when they are solved.\n'
    )


UNDEFINED = 'mmcv/_ext.so: undefined symbol: _ZN5torch3jit17parseSchemaOrName'
CASES = {
    'no torch': (
        {'torch/__init__.py': None, 'torch/include/ATen/ATen.h': None},
        {'torch': None},
        'torch is not installed: pip install torch torchvision',
    ),
    'a broken torch': (
        {'torch/__init__.py': 'raise OSError("libcudart.so.13: cannot open")'},
        {},
        'torch 2.11.0 does not import (OSError: libcudart.so.13: cannot open): '
        'pip install --force-reinstall torch torchvision',
    ),
    'an old torch': (
        {'torch/__init__.py': TORCH.format(gpu=False).replace('2.11.0', '2.9.1')},
        {'torch': '2.9.1'},
        'torch 2.9.1+cu130 in {site}/torch is older than 2.10: '
        'pip install --upgrade torch torchvision',
    ),
    'torchvision of another torch': (
        {'torchvision/__init__.py': 'raise RuntimeError("no torchvision::nms")'},
        {'torchvision': '0.20.0'},
        'torchvision 0.20.0 does not import (RuntimeError: no torchvision::nms): '
        'pip install --force-reinstall --no-deps "torchvision==0.26.*"',
    ),
    'mmcv without ops': (
        {'mmcv/_ext.py': None},
        {},
        'onedl-mmcv 2.3.6 has no compiled ops (no mmcv._ext in {site}/mmcv): '
        + MMCV_AGAIN,
    ),
    'ops for another Python': (
        {'mmcv/_ext.py': None, 'mmcv/_ext.cpython-39-x86_64-linux-gnu.so': ''},
        {},
        'onedl-mmcv 2.3.6 has no compiled ops (only '
        '_ext.cpython-39-x86_64-linux-gnu.so, for another Python, in {site}/mmcv): '
        + MMCV_AGAIN,
    ),
    'ops for another torch': (
        {'mmcv/_ext.py': f'raise ImportError("{UNDEFINED}", name="mmcv._ext")'},
        {},
        'The compiled ops of onedl-mmcv 2.3.6 do not load with torch 2.11.0+cu130; '
        f'they were built for another version ({UNDEFINED}): {MMCV_AGAIN}',
    ),
    'ops older than mmcv': (
        {'mmcv/ops/__init__.py': 'assert False, "new_op miss in module _ext"'},
        {},
        'The compiled ops of onedl-mmcv 2.3.6 do not load with torch 2.11.0+cu130; '
        'they were built for another version (new_op miss in module _ext): '
        f'{MMCV_AGAIN}',
    ),
    'mmcv-lite': (
        {'mmcv/_ext.py': None},
        {'onedl-mmcv': None, 'mmcv-lite': '2.3.6'},
        'mmcv-lite 2.3.6 has no compiled ops (no mmcv._ext in {site}/mmcv): '
        f'pip uninstall -y mmcv-lite && {MMCV}',
    ),
    'upstream mmcv': (
        {'mmcv/__init__.py': "__version__ = '2.1.0'"},
        {'onedl-mmcv': None, 'mmcv': '2.1.0'},
        'mmcv 2.1.0 in {site}/mmcv is older than 2.3.6: '
        f'pip uninstall -y mmcv && {MMCV}',
    ),
    'mmcv twice': (
        {},
        {'mmcv': '2.1.0'},
        'onedl-mmcv 2.3.6 and mmcv 2.1.0 are both mmcv, and overwrite each other: '
        f'pip uninstall -y onedl-mmcv mmcv && {MMCV}',
    ),
    'mmdet twice': (
        {},
        {'mmdet': '3.3.0'},
        'onedl-mmdetection 3.5.1 and mmdet 3.3.0 are both mmdet, and overwrite each '
        'other: pip uninstall -y onedl-mmdetection mmdet && '
        'pip install onedl-mmdetection',
    ),
    'upstream mmdet': (
        {'mmdet/__init__.py': 'assert False, "MMCV==2.3.6 is incompatible"'},
        {'onedl-mmdetection': None, 'mmdet': '3.3.0'},
        'mmdet 3.3.0 does not import (AssertionError: MMCV==2.3.6 is incompatible): '
        'pip uninstall -y mmdet && pip install onedl-mmdetection',
    ),
    'half removed': (
        {'mmdet/__init__.py': None},
        {},
        'onedl-mmdetection 3.5.1 is half removed: its files are gone: '
        'pip install --force-reinstall --no-deps onedl-mmdetection',
    ),
    'only the folder is left': (
        {'mmcv/__init__.py': None},
        {'onedl-mmcv': None},
        f'mmcv is not installed: {MMCV}',
    ),
    'an editable install whose folder is gone': (
        {
            'mmdet/__init__.py': None,
            'onedl_mmdetection-3.5.1.dist-info/direct_url.json': json.dumps(
                dict(url='file:///gone/my%20mmdet', dir_info=dict(editable=True))
            ),
        },
        {},
        'onedl-mmdetection 3.5.1 is an editable install of /gone/my mmdet, which is '
        'gone: pip install --force-reinstall --no-deps onedl-mmdetection',
    ),
    'files of an editable install': (
        {
            '__editable__.mmadaptor-0.0.9.pth': '',
            '__editable___mmadaptor_0_0_9_finder.py': '',
            '__editable__.another-1.0.pth': '',
        },
        {},
        'Files of removed packages are left: rm -r '
        '{site}/__editable__.mmadaptor-0.0.9.pth '
        '{site}/__editable___mmadaptor_0_0_9_finder.py',
    ),
    'the link of an editable install whose folder is gone': (
        {'mmdet.egg-link': '/gone/mmdet\n.', 'mmseg.egg-link': '/\n.'},
        {},
        'Files of removed packages are left: rm -r {site}/mmdet.egg-link',
    ),
    'files of a stopped removal': (
        {'~mcv/ops.py': '', '~umpy/ops.py': ''},
        {},
        "Files of removed packages are left: rm -r '{site}/~mcv'",
    ),
    'metadata of a stopped installation': (
        {'torch-2.9.1.dist-info/METADATA': '', 'onedl_mmcv-2.0.dist-info/RECORD': ''},
        {},
        'Files of removed packages are left: rm -r {site}/onedl_mmcv-2.0.dist-info '
        '{site}/torch-2.9.1.dist-info',
    ),
    "OpenCV's system library": (
        {'mmcv/__init__.py': 'raise ImportError("libGL.so.1: cannot open")'},
        {},
        'onedl-mmcv 2.3.6 does not import (ImportError: libGL.so.1: cannot open): '
        'apt-get install libgl1',
    ),
    'a dependency': (
        {'mmengine/__init__.py': 'import yaml.nodes'},
        {},
        'onedl-mmengine 0.10.12 does not import (ModuleNotFoundError: No module named '
        "'yaml'): pip install pyyaml",
    ),
    'a dependency of two packages': (
        {'mmengine/__init__.py': 'import yaml', 'mmcv/__init__.py': 'import mmengine'},
        {},
        'onedl-mmengine 0.10.12 does not import (ModuleNotFoundError: No module named '
        "'yaml'): pip install pyyaml",
    ),
    'a toolbox that another one needs': (
        {'mmdet/__init__.py': 'import mmpretrain'},
        {},
        'onedl-mmdetection 3.5.1 does not import (ModuleNotFoundError: No module named '
        "'mmpretrain'): pip install onedl-mmpretrain",
    ),
    'no mmengine': (
        {
            'mmengine/__init__.py': None,
            'mmcv/__init__.py': 'import mmengine',
            'mmdet/__init__.py': 'import mmcv',
        },
        {'onedl-mmengine': None},
        'mmengine is not installed: pip install onedl-mmengine',
    ),
    'no mmcv, torch of C++20, no build tools': (
        {
            'mmcv/__init__.py': None,
            'torch/include/ATen/ATen.h': '#error C++20 or later compatible compiler',
            'pkg_resources.py': None,
            'ninja.py': None,
        },
        {'onedl-mmcv': None},
        'mmcv is not installed: pip install "setuptools<82" ninja && '
        '(cd "$(mktemp -d)" && pip download --no-deps --no-build-isolation '
        '--no-binary onedl-mmcv onedl-mmcv && tar xzf onedl_mmcv-*.tar.gz && '
        'sed -i s/c++17/c++20/ onedl_mmcv-*/setup.py && '
        'pip install --no-cache-dir --no-build-isolation ./onedl_mmcv-*/)',
    ),
    'a GPU that mmcv cannot use': (
        {'torch/__init__.py': TORCH.format(gpu=True)},
        {},
        "torch finds a GPU, but mmcv's ops are compiled for the CPU only: "
        f'FORCE_CUDA=1 {MMCV_AGAIN}',
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_each_fault_has_its_sentence_and_command(case, site):
    files, versions, expected = CASES[case]
    more = 'extension.HAS_CUDA = True'
    assert problems_of(site, files, versions, more) == [expected.format(site=site)]


def test_the_problem_of_our_own_ops_is_theirs(site):
    more = 'def problem(): raise RuntimeError("the ops are not built")'
    more += '\nextension.require = problem'
    assert problems_of(site, more=more) == ['the ops are not built']


def test_a_gpu_that_our_ops_cannot_use(site):
    files = {
        'torch/__init__.py': TORCH.format(gpu=True),
        'mmcv/ops/__init__.py': OPS.replace('not available', '13.0'),
    }
    assert problems_of(site, files) == [
        "torch finds a GPU, but mmadaptor's ops are compiled for the CPU only: "
        'FORCE_CUDA=1 pip install --force-reinstall --no-deps --no-build-isolation '
        f'-e {ROOT}'
    ]


def test_no_compiler_for_what_has_to_be_compiled(site):
    assert problems_of(site, CXX='no-such-compiler') == []
    files = {'mmcv/_ext.py': None}
    (site / 'mmcv' / '_ext.py').unlink()
    first, second = problems_of(site, files, CXX='no-such-compiler')
    assert first == (
        'No C++ compiler (no-such-compiler) is found, and ops have to be compiled: '
        'apt-get install g++'
    )
    assert second.endswith(MMCV_AGAIN)


def test_no_pip_where_commands_need_it(site):
    """As uv makes environments."""
    assert problems_of(site, {'pip.py': None}) == []
    (site / 'mmcv' / '_ext.py').unlink()
    first, second = problems_of(site, {'pip.py': None, 'mmcv/_ext.py': None})
    assert first == (
        f'pip, which solves the others, is not installed: {sys.executable} -m ensurepip'
    )
    assert second.endswith(MMCV_AGAIN)


def test_a_python_that_is_too_old(site):
    (problem,) = problems_of(site, more='sys.version_info = (3, 9, 1)')
    assert problem.endswith(
        ' is not supported, only 3.10 and later: python3.13 -m venv .venv && '
        '. .venv/bin/activate'
    )


def test_pythons_are_those_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    oldest, newest = doctor.OLDEST_PYTHON, doctor.NEWEST_PYTHON
    assert setup['options']['python_requires'] == '>={}.{}'.format(*oldest)
    listed = re.findall(r'Python :: (3\.\d+)', setup['metadata']['classifiers'])
    assert [listed[0], listed[-1]] == ['{}.{}'.format(*v) for v in (oldest, newest)]


def entry(kind, architecture, content=b''):
    """Return kernels as nvcc stores them; kind 1 is PTX, 2 machine code."""
    head = struct.pack('<HHIQ12xI32x', kind, 0x101, 64, len(content), architecture)
    return head + content


def container(*entries):
    content = b''.join(entries)
    return struct.pack('<IHHQ', 0xBA55ED50, 1, 16, len(content)) + content


def test_gpus_that_a_library_has_kernels_for(tmp_path):
    """Two containers, as nvcc makes them, among other bytes."""
    path = tmp_path / 'library.so'
    path.write_bytes(
        b'ELF of some bytes'
        + container(entry(2, 120, b'x' * 24), entry(2, 80, b'y' * 8))
        + b'others'
        + container(entry(2, 80, b''), entry(1, 120, b'.target'))
    )
    assert doctor.gpus_of(path) == 'sm_80, sm_120, compute_120'
    path.write_bytes(b'no kernel')
    assert doctor.gpus_of(path) == ''


def problems_of_gpus(site, *capabilities):
    """Run the doctor where there are GPUs, with kernels for some."""
    library = site.parent / 'library.so'
    library.write_bytes(container(entry(2, 80), entry(2, 90), entry(1, 100)))
    torch = f'{TORCH.format(gpu=True)}\ncapabilities = {list(capabilities)}'
    ops = OPS.replace('not available', '13.0')
    return problems_of(
        site,
        {'torch/__init__.py': torch, 'mmcv/ops/__init__.py': ops},
        more=f'extension.HAS_CUDA, extension.LIBRARY = True, pathlib.Path({str(library)!r})',
    )


def test_gpus_that_run_the_kernels(site):
    """Machine code of the major version, or PTX, not later than the GPU."""
    assert problems_of_gpus(site, (8, 0), (8, 9), (9, 0), (10, 0), (12, 1)) == []


@pytest.mark.parametrize(
    'capabilities, name, wanted',
    [
        ([(7, 5)], 'GPU0 (compute capability 7.5)', '7.5'),
        ([(9, 0), (7, 5)], 'GPU1 (compute capability 7.5)', '7.5;9.0'),
    ],
)
def test_a_gpu_without_kernels(capabilities, name, wanted, site):
    assert problems_of_gpus(site, *capabilities) == [
        f"mmadaptor's ops have no kernels for {name}, only for sm_80, sm_90, "
        f'compute_100: TORCH_CUDA_ARCH_LIST="{wanted}" FORCE_CUDA=1 pip install '
        f'--force-reinstall --no-deps --no-build-isolation -e {ROOT}'
    ]


def test_a_gpu_that_is_too_old(site):
    assert problems_of_gpus(site, (6, 1)) == [
        "mmadaptor's ops have no kernels for GPU0 (compute capability 6.1), and GPUs "
        'before 7.5 are not supported; run on the CPU: export CUDA_VISIBLE_DEVICES=-1'
    ]


def test_the_oldest_gpu_is_the_first_of_the_build():
    setup = (ROOT / 'setup.py').read_text()
    assert "ARCHITECTURES = ('{}.{}',".format(*doctor.OLDEST_GPU) in setup


def test_the_oldest_torch_is_that_of_the_ops_and_of_pip():
    oldest = environment.MINIMUM_VERSIONS['torch']
    setup = (ROOT / 'setup.py').read_text()
    assert f'OLDEST_TORCH = ({oldest.replace(".", ", ")})\n' in setup
    requirements = (ROOT / 'requirements' / 'runtime.txt').read_text().split()
    assert f'torch>={oldest}' in requirements


def test_tools_say_the_same(tmp_path):
    """mmdet's own import of mmcv's ops fails deep in a tool."""
    mmcv = pathlib.Path(importlib.util.find_spec('mmcv').origin).parent
    (tmp_path / 'mmcv').mkdir()
    for path in mmcv.iterdir():
        if not path.name.startswith('_ext'):
            (tmp_path / 'mmcv' / path.name).symlink_to(path)
    failing = f'raise ImportError("{UNDEFINED}", name="mmcv._ext")'
    (tmp_path / 'mmcv' / '_ext.py').write_text(failing)
    done = subprocess.run(
        [sys.executable, 'tools/get_flops.py', 'configs/mask_rcnn_vmamba_t_coco.py'],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    pattern = (
        r'\nerror: The compiled ops of onedl-mmcv \S+ do not load with torch \S+; they '
        rf'were built for another version \({UNDEFINED}\): .*pip install .*\n$'
    )
    assert re.search(pattern, done.stderr), done.stderr


def test_this_environment(tmp_path):
    """By the command of the documentation, which imports everything."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'mmadaptor.doctor']
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, ''), done
    assert done.stdout.endswith('\nNo problems found\n')


def test_commands_name_paths_with_spaces_whole(tmp_path):
    """`rm -r` of such a path in pieces would remove something else."""
    site = tmp_path / 'my env' / 'site-packages'
    command = problems_of(site, {'~mcv/ops.py': ''})[0].rpartition(': ')[2]
    assert shlex.split(command) == ['rm', '-r', f'{site}/~mcv']


def test_the_pip_of_another_environment_is_not_taken():
    scripts = sysconfig.get_path('scripts')
    assert environment.pip_of(f'{scripts}/pip') == 'pip'
    own = f'{sys.executable} -m pip'
    # Of an environment beside this one, such as .venv2.
    for other in (f'{sys.exec_prefix}2/bin/pip', '/elsewhere/bin/pip', None):
        assert environment.pip_of(other) == own
