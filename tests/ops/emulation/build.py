# SPDX-License-Identifier: Apache-2.0
"""Compile the unmodified source of the CUDA ops for an emulated device on the host."""

import concurrent.futures
import hashlib
import os
import pathlib
import subprocess

import torch
from torch.utils import cpp_extension

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CSRC = ROOT / 'mmadaptor' / 'csrc'
COMPILER = os.environ.get('CXX', 'c++').split()
COMMON = ['-std=c++17', '-fPIC', '-DMMADAPTOR_EMULATION', '-Wno-psabi']
# Only the kernels are compiled with sanitizers. Host code includes torch and is compiled
# with the fastest settings.
KERNEL = ['-O1', '-g1', '-fno-omit-frame-pointer', '-fsanitize=address,undefined']
CALLER = ['-O0', '-g0']


def sanitizer(name: str) -> str:
    """Return the path of a sanitizer's library, which must be loaded first."""
    return subprocess.run(
        [*COMPILER, f'-print-file-name={name}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def compile_object(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Compile a source of the ops (with torch headers) or of the kernels (without)."""
    calls_torch = source.suffix == '.cpp' and source.parent != HERE
    flags = [f'-I{HERE}', *(CALLER if calls_torch else KERNEL)]
    if calls_torch:
        flags += ['-DTORCH_STABLE_ONLY', '-DTORCH_TARGET_VERSION=0x020a000000000000']
        flags += [f'-I{p}' for p in cpp_extension.include_paths()]
    target = folder / f'{source.name}.o'
    done = subprocess.run(
        [*COMPILER, *COMMON, *flags, '-x', 'c++', '-c', str(source), '-o', str(target)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f'{source} does not compile:\n{done.stderr[-6000:]}')
    return target


def build() -> pathlib.Path:
    """Build the library if any source has changed; return its path."""
    sources = [
        *(CSRC / 'cuda').glob('*.cu'),
        *(CSRC / 'cuda').glob('*.cpp'),
        *HERE.glob('*.cpp'),
    ]
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(
        [*CSRC.glob('*.h'), *(CSRC / 'cuda').glob('*'), *HERE.glob('*')]
    ):
        if path.is_file():
            digest.update(path.read_bytes())
    folder = ROOT / 'build' / 'emulation'
    library = folder / f'{digest.hexdigest()[:16]}.so'
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('*.so'):
        old.unlink()
    sources.sort(key=lambda path: path.suffix)  # torch first: slowest
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda s: compile_object(s, folder), sources))
    torch_libraries = pathlib.Path(torch.__file__).parent / 'lib'
    subprocess.run(
        [
            *COMPILER,
            '-shared',
            '-fsanitize=address,undefined',
            *map(str, objects),
            f'-L{torch_libraries}',
            '-ltorch_cpu',
            '-o',
            str(library),
        ],
        check=True,
    )
    return library
