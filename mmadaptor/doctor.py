# SPDX-License-Identifier: Apache-2.0
"""Examine the environment: versions, compiled ops, and a command for each problem.

Usage: python -m mmadaptor.doctor
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import warnings
from importlib import metadata, util

from .environment import (
    DISTRIBUTIONS,
    PIP,
    ROOT,
    has_code,
    import_problem,
    install,
    installed,
    problem_of_mmcv_ops,
    problem_of_package,
)
from .version import __version__

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)  # that are tested, as in setup.cfg
OLDEST_GPU = (7, 5)  # compute capability; the first in setup.py's list


def output_of(command: str, *arguments: str) -> str:
    """Return what a command prints; nothing if there is no such command."""
    words = command.split()
    if not words or shutil.which(words[0]) is None:
        return ''
    return subprocess.run([*words, *arguments], capture_output=True, text=True).stdout


def compiler() -> str:
    """Return the command of the C++ compiler, as torch's builds choose it."""
    return os.environ.get('CXX', 'c++')


def facts_of_machine() -> dict[str, str]:
    """Return the versions of everything, for which nothing is imported."""
    cxx, nvcc = output_of(compiler(), '--version'), output_of('nvcc', '--version')
    facts = {
        'Python': f'{platform.python_version()} ({sys.executable})',
        'platform': f'{platform.platform()}, {" ".join(platform.libc_ver())}',
        'C++ compiler': cxx.partition('\n')[0] or 'not found',
        'nvcc': ', '.join(re.findall(r'V[\d.]+', nvcc)) or 'not found',
    }
    for name in DISTRIBUTIONS:
        found = [f'{version} ({d})' for d, version in installed(name).items()]
        facts[name] = ', '.join(found) or (
            'of an unknown version' if has_code(name) else 'not installed'
        )
    return {**facts, 'mmadaptor': f'{__version__} (in {ROOT})'}


def problem_of_python() -> str | None:
    """Return the problem of a Python that is too old; None if it is not."""
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return None
    oldest, newest = ('.'.join(map(str, v)) for v in (OLDEST_PYTHON, NEWEST_PYTHON))
    return (
        f'Python {platform.python_version()} is not supported, only {oldest} and '
        f'later: python{newest} -m venv .venv && . .venv/bin/activate'
    )


def problem_of_compiler() -> str | None:
    """Return what is missing to compile ops; None if nothing is."""
    if not output_of(compiler(), '--version'):
        return (
            f'No C++ compiler ({compiler()}) is found, and ops have to be compiled: '
            'apt-get install g++'
        )
    if not pathlib.Path(sysconfig.get_path('include'), 'Python.h').exists():
        return (
            'Python.h is not found, and ops have to be compiled: apt-get install '
            'python3-dev'
        )
    return None


def is_left(path: pathlib.Path, name: str) -> bool:
    """Return whether a file is what an install or a removal may leave."""
    if path.name == f'{name}.egg-link':  # names the folder of an older pip's install
        return not pathlib.Path(path.read_text().partition('\n')[0]).is_dir()
    if path.name.startswith(f'{name}-') and path.suffix == '.dist-info':
        file = path / 'METADATA'
        return not file.exists() or not file.stat().st_size
    starts = f'__editable__.{name}-', f'__editable___{name}_', f'~{name[1:]}'
    return path.name.startswith(starts)


def problem_of_leftovers() -> str | None:
    """Return the problem of files that installs and stopped removals left."""
    names = [d.replace('-', '_') for ds in DISTRIBUTIONS.values() for d in ds]
    # All of a name: in a checkout, an egg-info in the working directory comes first.
    owned = {
        file.name
        for distribution in metadata.distributions()
        if (distribution.metadata['Name'] or '').replace('-', '_') in names
        for file in distribution.files or ()
    }
    left = [
        str(path)
        for folder in map(pathlib.Path, sys.path)
        if folder.name in ('site-packages', 'dist-packages')
        for path in sorted(folder.glob('*'))
        if path.name not in owned and any(is_left(path, name) for name in names)
    ]
    if not left:
        return None
    return f'Files of removed packages are left: rm -r {shlex.join(left)}'


def kernels_of(library: pathlib.Path) -> set[tuple[bool, int]]:
    """Return whether kernels of a library are PTX, and the architecture: `(False, 80)`.

    nvcc puts its kernels into containers: a header of 16 bytes with the size of the
    rest, then entries of a kind (1 is PTX, 2 machine code), the sizes of the entry's
    header and content, and at byte 28 the architecture.
    """
    data, found = library.read_bytes(), set()
    for start in re.finditer(b'\x50\xed\x55\xba\x01\x00\x10\x00', data):
        at = start.end() + 8
        end = at + struct.unpack_from('<Q', data, start.end())[0]
        while at < end:
            kind, _, header, content = struct.unpack_from('<HHIQ', data, at)
            architecture = struct.unpack_from('<I', data, at + 28)[0]
            found.add((kind != 2, architecture))
            at += header + content
    return found


def gpus_of(library: pathlib.Path) -> str:
    """Return the GPUs that a library has kernels for: `'sm_80, sm_90, compute_90'`."""
    kernels = sorted(kernels_of(library))
    return ', '.join(f'{"compute" if ptx else "sm"}_{n}' for ptx, n in kernels)


def problem_of_gpus(library: pathlib.Path) -> str | None:
    """Return that a library has no kernels for a GPU of this machine; None if it has.

    A GPU runs machine code of its major version that is not of a later minor version,
    and its driver compiles PTX of any version that is not later.
    """
    import torch

    kernels, found, missing = kernels_of(library), set(), {}
    for i in range(torch.cuda.device_count()):
        major, minor = capability = torch.cuda.get_device_capability(i)
        found.add(capability)
        if not any(
            n <= 10 * major + minor and (ptx or n // 10 == major) for ptx, n in kernels
        ):
            name = torch.cuda.get_device_name(i)
            missing[capability] = f'{name} (compute capability {major}.{minor})'
    if not missing:
        return None
    text = f"mmadaptor's ops have no kernels for {', '.join(missing.values())}, "
    if min(missing) < OLDEST_GPU:
        oldest = '.'.join(map(str, OLDEST_GPU))
        return (
            f'{text}and GPUs before {oldest} are not supported; run on the CPU: '
            'export CUDA_VISIBLE_DEVICES=-1'
        )
    wanted = ';'.join(f'{major}.{minor}' for major, minor in sorted(found))
    return (
        f'{text}only for {gpus_of(library)}: TORCH_CUDA_ARCH_LIST="{wanted}" '
        f'FORCE_CUDA=1 {install("mmadaptor", "--force-reinstall", "--no-deps")}'
    )


def facts_of_torch(problems: list[str]) -> dict[str, str]:
    """Return the facts of the compiled ops, and add their problems."""
    import torch

    gpu = torch.cuda.is_available()
    facts = dict(torch=f'{torch.__version__}, {"a GPU" if gpu else "no GPU"}')
    if problem := import_problem('mmadaptor.ops', "mmadaptor's ops"):
        problems.append(problem)
        return facts
    try:
        from .ops import _extension

        _extension.require()
    except RuntimeError as error:
        problems.append(str(error))
        return facts
    instructions = torch.backends.cpu.get_cpu_capability()  # ours choose as torch does
    cuda = f'CUDA {gpus_of(_extension.LIBRARY)}' if _extension.HAS_CUDA else 'no CUDA'
    facts["mmadaptor's ops"] = f'{instructions} in use, {cuda}'
    if gpu and not _extension.HAS_CUDA:
        problems.append(
            "torch finds a GPU, but mmadaptor's ops are compiled for the CPU only: "
            f'FORCE_CUDA=1 {install("mmadaptor", "--force-reinstall", "--no-deps")}'
        )
    elif gpu and (problem := problem_of_gpus(_extension.LIBRARY)):
        problems.append(problem)
    return facts


def facts_of_mmcv_ops(problems: list[str]) -> dict[str, str]:
    """Return the facts of mmcv's compiled ops, and add their problems."""
    import torch

    if problem := problem_of_mmcv_ops():
        problems.append(problem)
        return {"mmcv's ops": 'cannot be used'}
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version

    cuda = get_compiling_cuda_version()
    if cuda == 'not available' and torch.cuda.is_available():
        problems.append(
            "torch finds a GPU, but mmcv's ops are compiled for the CPU only: "
            f'FORCE_CUDA=1 {install("mmcv", "--force-reinstall", "--no-deps")}'
        )
    return {"mmcv's ops": f'{get_compiler_version()}, CUDA {cuda}'}


def examine() -> tuple[dict[str, str], list[str]]:
    """Examine the environment.

    Returns:
        What there is, by name; and the problems, each a sentence with a command.
    """
    facts = facts_of_machine()
    if problem := problem_of_python():
        return facts, [problem]
    problems = [problem_of_leftovers()]
    found = {'torch': problem_of_package('torch')}
    if not found['torch']:
        found.update((name, problem_of_package(name)) for name in DISTRIBUTIONS)
    by_command = {}  # what is missing fails in several packages
    for text in filter(None, [*problems, *found.values()]):
        by_command.setdefault(text.rpartition(': ')[2], text)
    problems = [*by_command.values()]
    if len(found) > 1:
        facts.update(facts_of_torch(problems))
        if not found['mmcv'] and 'mmcv' in sys.modules:
            facts.update(facts_of_mmcv_ops(problems))
    if any('--no-build-isolation' in text for text in problems):
        problems = [text for text in [problem_of_compiler()] if text] + problems
    if not problems and (problem := import_problem('mmadaptor.models', 'mmadaptor')):
        problems.append(problem)
    if any(PIP in text for text in problems) and not util.find_spec('pip'):
        ensure = f'{shlex.quote(sys.executable)} -m ensurepip'
        problems.insert(0, f'pip, which solves the others, is not installed: {ensure}')
    return facts, problems


def main() -> int:
    """Print facts and problems; return 1 if there are problems, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')  # packages warn as they are imported
        with contextlib.redirect_stdout(io.StringIO()):
            facts, problems = examine()
    if args.json:
        text = json.dumps(dict(facts=facts, problems=problems), indent=1)
        sys.stdout.write(f'{text}\n')
        return int(bool(problems))
    width = max(map(len, facts))
    lines = [f'{name:{width}}  {text}' for name, text in facts.items()]
    lines += ['', f'{len(problems) or "No"} problem{"s" * (len(problems) != 1)} found']
    lines += [f'  {i}. {text}' for i, text in enumerate(problems, 1)]
    lines += ['Run this again when they are solved.'] * bool(problems)
    sys.stdout.write('\n'.join(lines) + '\n')
    return int(bool(problems))


if __name__ == '__main__':
    sys.exit(main())
