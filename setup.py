# SPDX-License-Identifier: Apache-2.0
"""Builds the libraries of the compiled ops; the rest is in setup.cfg.

That for torch uses torch's stable ABI and no Python header, so one file serves every
Python and every torch from `OLDEST_TORCH` on, whichever it was built with. That for
onnxruntime has the same CPU kernels and no torch.

The CPU's ops are always built, those for CUDA when the installed torch has CUDA
and its nvcc is found; no GPU is needed. In the environment:

    FORCE_CUDA=1 or 0      build them, or fail; or leave them out
    CUDA_HOME              the toolkit, if it is not that of the nvcc in PATH
    TORCH_CUDA_ARCH_LIST   for which GPUs: "8.0;9.0+PTX"
    MMADAPTOR_CXX_ARGS     more arguments of the C++ compiler, after ours
    MMCV_CUDA_ARGS         more arguments of nvcc, as mmcv's build reads them
    MMADAPTOR_LOCAL_VERSION  "cu130" names a wheel mmadaptor-0.1.0+cu130
"""

import os
import pathlib
import re
import shutil
import subprocess
import warnings

from setuptools import setup

NO_TORCH = """
mmadaptor compiles its ops with torch's headers, and no torch is importable here.
Install torch first, then build without pip's isolation:

    pip install -r requirements/build.txt
    pip install -e . --no-build-isolation
"""
# Users are told by mmadaptor/environment.py; pip by requirements/runtime.txt.
OLDEST_TORCH = (2, 10)
# Where no GPU says which it is: T4 and RTX 20, A100, H100 and H200, B200, RTX 50, as
# far as the toolkit knows them; later ones compile the PTX of the last when they first
# load it. The first is the oldest that the ops support.
ARCHITECTURES = ('7.5', '8.0', '9.0', '10.0', '12.0')


def find_toolkit() -> pathlib.Path | None:
    """The CUDA toolkit's folder, which nvcc knows; torch trusts a wrapper's."""
    named = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    if named:
        return pathlib.Path(named)
    nvcc = shutil.which('nvcc') or '/usr/local/cuda/bin/nvcc'
    if not os.path.exists(nvcc):
        return None
    plan = subprocess.run(
        [nvcc, '--dryrun', '-x', 'cu', '-c', os.devnull], capture_output=True, text=True
    ).stderr
    top = re.search(r'^#\$ TOP=(.*)$', plan, re.M)
    return pathlib.Path(top[1]).resolve() if top else None


def known_architectures(toolkit: pathlib.Path) -> str:
    """Those of `ARCHITECTURES` that a toolkit's nvcc compiles for."""
    known = subprocess.run(
        [str(toolkit / 'bin' / 'nvcc'), '--list-gpu-arch'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    names = [n for n in ARCHITECTURES if f'compute_{n.replace(".", "")}' in known]
    return ';'.join(names) + '+PTX'


def why_no_cuda(toolkit: pathlib.Path | None) -> str | None:
    """What keeps the CUDA ops from being built; None if nothing does."""
    import torch

    if torch.version.cuda is None:
        return f'torch {torch.__version__} has no CUDA'
    nvcc = toolkit and toolkit / 'bin' / 'nvcc'
    if not nvcc or not nvcc.exists():
        return 'no nvcc is found' + (f' in {toolkit}/bin' if toolkit else '')
    version = re.search(
        r'release (\d+)\.',
        subprocess.run([str(nvcc), '--version'], capture_output=True, text=True).stdout,
    )
    if not version or version[1] != torch.version.cuda.split('.')[0]:
        return (
            f'{nvcc} is not of the CUDA {torch.version.cuda} of torch '
            f'{torch.__version__}'
        )
    return None


def builds_cuda() -> bool:
    """Whether the CUDA ops are built; sets up torch's build for them."""
    wish = os.environ.get('FORCE_CUDA', '')
    if wish not in ('', '0', '1'):
        raise SystemExit(f'FORCE_CUDA must be 0 or 1, got {wish!r}.')
    if wish == '0':
        return False
    toolkit = find_toolkit()
    problem = why_no_cuda(toolkit)
    if problem:
        if wish == '1':
            raise SystemExit(f'FORCE_CUDA=1, but {problem}.')
        warnings.warn(f'the ops are built for the CPU alone: {problem}.', stacklevel=1)
        return False
    os.environ['CUDA_HOME'] = str(toolkit)
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault('TORCH_CUDA_ARCH_LIST', known_architectures(toolkit))
    return True


def get_extensions() -> list:
    """The C++ extensions, built by torch's own setuptools commands."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise SystemExit(NO_TORCH) from error
    with_cuda = builds_cuda()  # before torch looks for the toolkit
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    csrc = pathlib.Path('mmadaptor', 'csrc')
    folders = [csrc, csrc / 'cpu', *([csrc / 'cuda'] if with_cuda else [])]
    sources = [p for f in folders for kind in ('*.cpp', '*.cu') for p in f.glob(kind)]
    headers = [p for f in folders for kind in ('*.h', '*.cuh') for p in f.glob(kind)]
    arguments = dict(
        cxx=[
            '-g0',
            '-O3',
            '-fno-math-errno',
            '-ffp-contract=fast',
            # Refuses headers of torch that are not of its stable ABI.
            '-DTORCH_STABLE_ONLY',
            f'-DTORCH_TARGET_VERSION=0x{OLDEST_TORCH[0]:02x}{OLDEST_TORCH[1]:02x}{0:012x}',
            '-fvisibility=hidden',
            # Vectors wider than the baseline's are passed in memory
            # between the kernels' own functions, which is what we want.
            '-Wno-psabi',
            # Said of GCC's own headers of AVX-512 intrinsics.
            '-Wno-maybe-uninitialized',
            *(['-DUSE_CUDA'] if with_cuda else []),
            *os.environ.get('MMADAPTOR_CXX_ARGS', '').split(),
        ],
        nvcc=['-O3', *os.environ.get('MMCV_CUDA_ARGS', '').split()],
    )
    extension = (CUDAExtension if with_cuda else CppExtension)(
        'mmadaptor.libmmadaptor',
        sources=sorted(map(str, sources)),
        depends=sorted(map(str, headers)),
        extra_compile_args=arguments,
        py_limited_api=True,
    )
    # Not those of torch that have no stable ABI (c10, torch_python), nor the toolkit's
    # runtime: it is linked statically, so that any of the same major version will do.
    # The C++ library first: torch exports parts of its own copy.
    extension.libraries = [
        'stdc++',
        'torch_cpu',
        *(['torch_cuda'] if with_cuda else []),
    ]
    if with_cuda:
        extension.extra_link_args = ['-lcudart_static', '-ldl', '-lrt', '-lpthread']
    for_onnxruntime = CppExtension(
        'mmadaptor.libmmadaptor_onnxruntime',
        sources=[str(csrc / 'onnxruntime' / 'register.cpp')],
        # Of all that the first library has, whose objects it links.
        depends=sorted(
            map(str, [*sources, *headers, *(csrc / 'onnxruntime').glob('*.h')])
        ),
        extra_compile_args=dict(cxx=arguments['cxx']),
        py_limited_api=True,
    )
    for_onnxruntime.libraries = ['stdc++']
    return [extension, for_onnxruntime]


def get_commands() -> dict:
    """The `build_ext` of torch, wheels for every Python 3, and the version's tag."""
    from setuptools.command.bdist_wheel import bdist_wheel
    from setuptools.command.egg_info import egg_info
    from torch.utils.cpp_extension import BuildExtension

    class SharedKernels(BuildExtension.with_options(no_python_abi_suffix=True)):
        def build_extensions(self) -> None:
            # Compiled for the first library; linked into the second too.
            folder = pathlib.Path(self.build_temp, 'mmadaptor', 'csrc', 'cpu').resolve()
            self.extensions[1].extra_objects = [
                str(folder / f'{source.stem}.o')
                for source in pathlib.Path('mmadaptor', 'csrc', 'cpu').glob('*.cpp')
                if source.stem.endswith(('_baseline', '_avx2', '_avx512', '_tables'))
            ]
            super().build_extensions()

    class AnyPython(bdist_wheel):
        def get_tag(self) -> tuple[str, str, str]:
            return 'py3', 'none', super().get_tag()[2]

    class Tagged(egg_info):
        def finalize_options(self) -> None:
            # An sdist's setup.cfg has an empty tag, which would win over an option.
            local = os.environ.get('MMADAPTOR_LOCAL_VERSION')
            if local:
                self.tag_build = f'+{local}'
            super().finalize_options()

    return dict(build_ext=SharedKernels, bdist_wheel=AnyPython, egg_info=Tagged)


setup(ext_modules=get_extensions(), cmdclass=get_commands())
