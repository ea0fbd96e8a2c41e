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
# The kernels call the functions of races.cpp before each access to memory. Host code
# includes torch and is compiled with the fastest settings.
KERNEL = ['-O1', '-g1', '-fno-omit-frame-pointer', '-fsanitize=thread,undefined']
KERNEL += ['--param=tsan-instrument-func-entry-exit=0']
EMULATOR = ['-O2', '-g1', '-fno-omit-frame-pointer']
CALLER = ['-O0', '-g0']
CALLER += ['-DTORCH_STABLE_ONLY', '-DTORCH_TARGET_VERSION=0x020a000000000000']
LINK = [*COMPILER, '-fsanitize=address,undefined']


def sanitizer(name: str) -> str:
    """Return the path of a sanitizer's library, which must be loaded first."""
    return subprocess.run(
        [*COMPILER, f'-print-file-name={name}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def compile_object(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Compile a source of the emulator, of the kernels, or of their callers."""
    if source.suffix == '.cu':
        flags = KERNEL
    elif source.parent == HERE:
        flags = EMULATOR
    else:
        flags = [*CALLER, *(f'-I{p}' for p in cpp_extension.include_paths())]
    target = folder / f'{source.name}.o'
    done = subprocess.run(
        [
            *(*COMPILER, *COMMON, f'-I{HERE}', *flags),
            *('-x', 'c++', '-c', str(source), '-o', str(target)),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f'{source} does not compile:\n{done.stderr[-6000:]}')
    return target


def build() -> tuple[pathlib.Path, pathlib.Path]:
    """Build, if any source has changed.

    Returns:
        The library of the ops, and the program of faults.cu.
    """
    emulator, faults = sorted(HERE.glob('*.cpp')), HERE / 'faults.cu'
    sources = [*(CSRC / 'cuda').glob('*.cpp'), *(CSRC / 'cuda').glob('*.cu')]
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(
        [*CSRC.glob('*.h'), *(CSRC / 'cuda').glob('*'), *HERE.glob('*')]
    ):
        if path.is_file():
            digest.update(path.read_bytes())
    folder = ROOT / 'build' / 'emulation'
    library = folder / f'{digest.hexdigest()[:16]}.so'
    program = library.with_suffix('.faults')
    if library.exists():
        return library, program
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob('*.so'), *folder.glob('*.faults')):
        old.unlink()
    everything = [*sources, *emulator, faults]  # torch first: slowest
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(lambda source: compile_object(source, folder), everything)
        objects = dict(zip(everything, compiled, strict=True))
    of_emulator = [objects[source] for source in emulator]
    subprocess.run([*LINK, objects[faults], *of_emulator, '-o', program], check=True)
    of_ops = [objects[source] for source in sources]
    torch_flags = [f'-L{pathlib.Path(torch.__file__).parent / "lib"}', '-ltorch_cpu']
    subprocess.run(
        [*LINK, '-shared', *of_ops, *of_emulator, *torch_flags, '-o', library],
        check=True,
    )
    return library, program
