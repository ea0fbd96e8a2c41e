# SPDX-License-Identifier: Apache-2.0
"""Find problems of the installed packages, and the command that solves each.

It needs Python alone, because it is used where other packages are missing or broken.
A problem is one sentence that ends with the command.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import sysconfig
from importlib import metadata, util
from urllib.parse import unquote

MINIMUM_VERSIONS = dict(torch='2.10', mmengine='0.10.12', mmcv='2.3.6')
# Import names, and distributions that put files there; the first is ours to install.
DISTRIBUTIONS = dict(
    torch=['torch'],
    torchvision=['torchvision'],
    mmengine=['onedl-mmengine', 'mmengine', 'mmengine-lite'],
    mmcv=['onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'],
    mmdet=['onedl-mmdetection', 'mmdet'],
    mmseg=['onedl-mmsegmentation', 'mmsegmentation'],
    mmpretrain=['onedl-mmpretrain', 'mmpretrain'],
    mmadaptor=['mmadaptor'],
)
# Those that need a package. Without any of them, the ops can be used alone.
TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')
NEEDED_BY = dict(mmengine=('mmcv', *TOOLBOXES), mmcv=('mmengine', *TOOLBOXES))
# Other names of what they import. setuptools 82 removed pkg_resources.
INSTALLED_AS = dict(
    cv2='opencv-python-headless',
    yaml='pyyaml',
    PIL='pillow',
    pkg_resources='"setuptools<82"',
)
BUILD_TOOLS = ('pkg_resources', 'wheel', 'ninja', 'psutil')  # of mmcv
ROOT = pathlib.Path(__file__).resolve().parents[1]
SYSTEM_LIBRARIES = {'libGL.so': 'libgl1', 'libgthread': 'libglib2.0-0'}  # of OpenCV


def pip_of(found: str | None) -> str:
    """Return the command of this environment's pip.

    Args:
        found: The pip in the path, which may be that of another environment.
    """
    if found and os.path.dirname(found) == sysconfig.get_path('scripts'):
        return 'pip'
    return f'{shlex.quote(sys.executable)} -m pip'


PIP = pip_of(shutil.which('pip'))


def installed(name: str) -> dict[str, str]:
    """Return the versions of the distributions that an import name comes from."""
    found = {}
    for distribution in DISTRIBUTIONS[name]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            if version := metadata.version(distribution):  # None without METADATA
                found[distribution] = version
    return found


def numbers(version: str) -> list[int]:
    """Return the numbers of a version, such as `[2, 11, 0]`."""
    return [int(part) for part in re.findall(r'\d+', version.partition('+')[0])]


def has_code(name: str) -> bool:
    """Return whether a package can be found; a removal may leave its folder."""
    return getattr(util.find_spec(name), 'origin', None) is not None


def install(name: str, *options: str) -> str:
    """Return the command that installs a package.

    Args:
        name: The import name.
        options: More options of `pip install`.
    """
    what = DISTRIBUTIONS[name][0]
    torch = numbers(installed('torch').get('torch', ''))
    if name == 'torch':
        what = 'torch torchvision'
    elif name == 'mmadaptor' and (ROOT / 'setup.py').exists():
        what = f'--no-build-isolation -e {shlex.quote(str(ROOT))}'
    elif name == 'torchvision' and torch[:1] == [2]:
        what = f'"torchvision==0.{torch[1] + 15}.*"'  # the one for this torch
    pip = ' '.join([f'{PIP} install', *options])
    if name != 'mmcv':
        return f'{pip} {what}'
    # From its cache pip may take a wheel that it built for another torch, or before
    # there was one.
    pip += ' --no-cache-dir --no-build-isolation'
    missing = [INSTALLED_AS.get(t, t) for t in BUILD_TOOLS if not util.find_spec(t)]
    first = f'{PIP} install {" ".join(missing)} && ' if missing else ''
    if not headers_need_cxx20():
        return f'{first}{pip} {what}'
    return (
        f'{first}(cd "$(mktemp -d)" && {PIP} download --no-deps --no-build-isolation '
        f'--no-binary {what} {what} && tar xzf onedl_mmcv-*.tar.gz && '
        f'sed -i s/c++17/c++20/ onedl_mmcv-*/setup.py && {pip} ./onedl_mmcv-*/)'
    )


def headers_need_cxx20() -> bool:
    """Return whether torch's headers need C++20; mmcv's build asks for C++17."""
    spec = util.find_spec('torch')
    for folder in (spec and spec.submodule_search_locations) or ():
        header = pathlib.Path(folder, 'include', 'ATen', 'ATen.h')
        if header.exists():
            return 'C++20' in header.read_text()
    return False


def lost_folder(distribution: str) -> str | None:
    """Return the folder of an editable install if it is gone; else None."""
    text = metadata.distribution(distribution).read_text('direct_url.json')
    source = json.loads(text or '{}')
    folder = unquote(source.get('url', '').partition('file://')[2])
    editable = source.get('dir_info', {}).get('editable')
    return folder if editable and not pathlib.Path(folder).is_dir() else None


def replace(name: str) -> str:
    """Return the command that installs a package again, as the right distribution."""
    found = installed(name)
    if set(found) - {DISTRIBUTIONS[name][0]}:
        return f'{PIP} uninstall -y {" ".join(found)} && {install(name)}'
    keep = [] if name == 'torch' else ['--no-deps']  # torch's CUDA libraries are others
    return install(name, '--force-reinstall', *keep)


def problem_of_mmcv_ops() -> str | None:
    """Return why mmcv's ops cannot be used; None if they can."""
    if not has_code('mmcv'):
        return problem_of_package('mmcv')
    import mmcv

    who = f'{next(iter(installed("mmcv")), "mmcv")} {mmcv.__version__}'
    folder = pathlib.Path(mmcv.__file__).parent
    if not util.find_spec('mmcv._ext'):
        built = sorted(path.name for path in folder.glob('_ext*'))
        why = f'only {built[0]}, for another Python,' if built else 'no mmcv._ext'
        return f'{who} has no compiled ops ({why} in {folder}): {replace("mmcv")}'
    try:
        importlib.import_module('mmcv.ops')
    except Exception as error:
        import torch

        return (
            f'The compiled ops of {who} do not load with torch {torch.__version__}; '
            f'they were built for another version ({error}): {replace("mmcv")}'
        )
    return None


def problem_behind(error: BaseException | None) -> str | None:
    """Return the problem of mmcv's ops that an exception comes from, if it does."""
    while error is not None:
        if isinstance(error, ImportError) and error.name == 'mmcv._ext':
            return problem_of_mmcv_ops()
        error = error.__cause__ or error.__context__
    return None


def import_problem(name: str, who: str) -> str | None:
    """Import a module; return why that fails, or None.

    Also None if a required package is the cause: it is reported.

    Args:
        name: The module.
        who: What to call it.
    """
    try:
        importlib.import_module(name)
        return None
    except Exception as error:
        package = name.partition('.')[0]
        found = f'{who} does not import ({type(error).__name__}: {error})'
        for library, debian in SYSTEM_LIBRARIES.items():
            if library in str(error):
                return f'{found}: apt-get install {debian}'
        missing = (getattr(error, 'name', None) or package).partition('.')[0]
        if not isinstance(error, ModuleNotFoundError) or missing == package:
            return f'{found}: {replace(package)}'
        if missing in MINIMUM_VERSIONS:
            return None  # which is a problem of that package
        if missing in DISTRIBUTIONS:
            return f'{found}: {install(missing)}'
        return f'{found}: {PIP} install {INSTALLED_AS.get(missing, missing)}'


def problem_of_version(name: str) -> str | None:
    """Return that a package is older than the tested versions; None if it is not."""
    module, oldest = importlib.import_module(name), MINIMUM_VERSIONS.get(name, '0')
    version = getattr(module, '__version__', '0')
    if numbers(version) >= numbers(oldest):
        return None
    again = install(name, '--upgrade') if name == 'torch' else replace(name)
    return (
        f'{name} {version} in {pathlib.Path(module.__file__).parent} is older than '
        f'{oldest}: {again}'
    )


def problem_of_package(name: str) -> str | None:
    """Return the first problem of a package of `DISTRIBUTIONS`; None if it has none.

    A toolbox that is not installed is no problem.
    """
    found = installed(name)
    who = ' and '.join(f'{d} {version}' for d, version in found.items()) or name
    if len(found) > 1:
        return f'{who} are both {name}, and overwrite each other: {replace(name)}'
    if found and (folder := lost_folder(*found)):
        return (
            f'{who} is an editable install of {folder}, which is gone: {replace(name)}'
        )
    if not has_code(name):
        if found:
            return f'{who} is half removed: its files are gone: {replace(name)}'
        needed = name == 'torch' or any(map(has_code, NEEDED_BY.get(name, ())))
        return f'{name} is not installed: {install(name)}' if needed else None
    problem = import_problem(name, who)
    return problem_of_version(name) if name in sys.modules else problem
