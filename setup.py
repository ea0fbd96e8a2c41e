"""Builds `mmadaptor._ext`, the compiled ops; the rest is in setup.cfg."""
import pathlib

from setuptools import setup

ROOT = pathlib.Path(__file__).parent

NO_TORCH = """
mmadaptor compiles its ops against the torch that will run them, and no torch is
importable here. Install torch first, then build without pip's isolation:

    pip install -r requirements/build.txt
    pip install -e . --no-build-isolation
"""


def get_extensions() -> list:
    """The C++ extension, built by torch's own setuptools commands."""
    try:
        from torch.utils.cpp_extension import CppExtension
    except ImportError as error:
        raise SystemExit(NO_TORCH) from error
    csrc = pathlib.Path('mmadaptor', 'csrc')
    sources = [*csrc.glob('*.cpp'), *csrc.glob('cpu/*.cpp')]
    headers = [*csrc.glob('*.h'), *csrc.glob('cpu/*.h')]
    return [
        CppExtension(
            'mmadaptor._ext',
            sources=sorted(map(str, sources)),
            depends=sorted(map(str, headers)),
            extra_compile_args=[
                '-g0', '-O3', '-fno-math-errno', '-ffp-contract=fast',
                '-fopenmp',  # without it at::parallel_for is one thread
                # Vectors wider than the baseline's are passed in memory
                # between the kernels' own functions, which is what we want.
                '-Wno-psabi',
                # Said of GCC's own headers of AVX-512 intrinsics.
                '-Wno-maybe-uninitialized',
            ],
            extra_link_args=['-fopenmp'])
    ]


def get_commands() -> dict:
    """The `build_ext` of torch, parallel where ninja is there."""
    from torch.utils.cpp_extension import BuildExtension
    return dict(build_ext=BuildExtension)


setup(ext_modules=get_extensions(), cmdclass=get_commands())
