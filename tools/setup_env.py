# SPDX-License-Identifier: Apache-2.0
"""Set up `.venv` with all dependencies and compiled ops.

`make env` runs this script with any Python from 3.10 to 3.12; it needs a C++
compiler and a pip that can reach its package index. It installs the packages pinned
in requirements/lock.txt, compiles the ops of mmcv and mmadaptor, and checks that
both load. pip refuses any download whose hash is not in the lock file. Later runs redo
only outdated steps, and take a second if there are none.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
LOCK = ROOT / 'requirements' / 'lock.txt'
LIBRARY = ROOT / 'mmadaptor' / 'libmmadaptor.so'
EXAMPLE = """example:
  python3 tools/setup_env.py"""

# Rough estimates for 2 cores, used until a better one is known.
SECONDS = dict(tools=15, torch=200, packages=60, mmcv=600, mmadaptor=110)
TORCH = re.compile(
    r'(torch|triton|nvidia-|cuda-|numpy|pillow|filelock|fsspec|jinja2|'
    r'markupsafe|mpmath|networkx|sympy|typing.extensions)'
)


class SetupError(Exception):
    """A failed step; the message tells the user how to fix it."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other setup of this folder runs, and make others wait.

    Not by a file in `.venv`, which may be cleared. NFS locks only files that are open
    for writing.
    """
    with LOCK.open('r+' if os.access(LOCK, os.W_OK) else 'r') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('Waiting for another `make env` in this folder.', flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, as Lustre may be
            pass
        yield


def locked() -> dict[str, str]:
    """Return the hash options of each of the lock file's requirements."""
    lines = LOCK.read_text().replace('\\\n', ' ').splitlines()
    parts = [line.partition('--hash') for line in lines if not line.startswith('#')]
    return {name.strip(): option + hashes for name, option, hashes in parts}


def pinned(*names: str) -> list[str]:
    """Return the lock file's requirements with these names, or all if none is given."""
    found = list(locked())
    if names:
        found = [r for r in found if re.split(r'[=<> ;]', r)[0] in names]
    return found


class Step:
    """A command that runs in the background and writes its output to a log.

    Args:
        title: Title shown to the user.
        key: Key of the expected time in `SECONDS`; also names the log.
        command: Command line.
        env: Additional environment variables.
    """

    def __init__(
        self,
        title: str,
        key: str,
        command: list[str],
        env: dict[str, str] | None = None,
    ) -> None:
        self.title, self.expected = title, SECONDS[key]
        self.start = time.monotonic()
        self.log = VENV / f'setup-{key}.log'
        with self.log.open('w') as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )

    def output(self) -> str:
        """Return the log, which may end within a character while it is written."""
        return self.log.read_text(errors='replace')

    def seconds_left(self, elapsed: float) -> float:
        """Estimate the time left, from the compiler's "[done/total]" if available."""
        counts = re.findall(r'\[(\d+)/(\d+)\]', self.output())
        if counts and int(counts[-1][0]) > 5:
            done, total = map(int, counts[-1])
            return elapsed * (total - done) / done
        return max(self.expected - elapsed, 5)

    def wait(self) -> None:
        """Show the time left until the command ends; raise if it fails."""
        on_terminal = sys.stdout.isatty()
        shown = None
        while self.process.poll() is None:
            elapsed = time.monotonic() - self.start
            if on_terminal or shown is None or elapsed - shown >= 30:
                left = self.seconds_left(elapsed)
                text = f'  {self.title}: about {left / 60:.1f} min left'
                print(text, end='\r' if on_terminal else '\n', flush=True)
                shown = elapsed
            time.sleep(0.5)
        elapsed = time.monotonic() - self.start
        print(f'  {self.title}: {elapsed:.0f} s'.ljust(70), flush=True)
        if self.process.returncode != 0:
            tail = '\n'.join(self.output().splitlines()[-25:])
            raise SetupError(
                f'{tail}\n\n{self.title} failed; the end of its '
                f'output is above, the full output in {self.log}. '
                'If the network failed, run the command again: '
                'completed steps are kept.'
            )


def check_machine() -> None:
    """Raise if a supported Python, its headers, a compiler or disk space is missing."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        raise SetupError(
            'mmadaptor needs Python 3.10, 3.11 or 3.12, got '
            f'{sys.version.split()[0]} ({sys.executable}). Choose another one: '
            'make env PYTHON=python3.11'
        )
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler.partition(' ')[0]) is None:
        raise SetupError(
            f'C++ compiler "{compiler}" not found. Install one (on Debian: '
            'apt-get install g++) or set CXX to yours.'
        )
    if not pathlib.Path(sysconfig.get_path('include'), 'Python.h').exists():
        raise SetupError(
            "Python's headers (Python.h) not found; they are needed to compile the "
            'ops. Install them (on Debian: apt-get install python3-dev).'
        )
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < 10 and not PYTHON.exists():
        raise SetupError(
            f'The setup needs 10 GiB of disk space in {ROOT}, got {free:.1f} GiB.'
        )


def pip(*arguments: str) -> list[str]:
    """Return a command line that runs the environment's pip."""
    return [str(PYTHON), '-m', 'pip', '--disable-pip-version-check', *arguments]


def install(key: str, requirements: list[str], *options: str) -> list[str]:
    """Return a pip command that installs requirements of the lock file.

    pip checks the hash of each download, of wheels as well as of sources. Dependencies
    are left out, because the lock file lists all packages.

    Args:
        key: Key of the step; names the requirements file, which pip's hashes need.
        requirements: Some of those that `pinned` returns.
        options: More options of `pip install`.
    """
    hashes = locked()
    file = VENV / f'setup-{key}.txt'
    file.write_text(''.join(f'{r} {hashes[r]}\n' for r in requirements))
    return pip(
        'install',
        '--require-hashes',
        '--no-deps',
        '--no-build-isolation',
        *options,
        f'--requirement={file}',
    )


def fingerprint(*parts: str | pathlib.Path) -> str:
    """Hash texts and file contents, to detect whether the input of a step changed."""
    digest = hashlib.sha256()
    for part in parts:
        is_file = isinstance(part, pathlib.Path)
        digest.update(part.read_bytes() if is_file else part.encode())
    return digest.hexdigest()


class Stamp:
    """A file in the environment that records the input of a completed step.

    It is true if the step was completed with the current input.

    Args:
        name: Name of the step.
        content: Current input of the step, e.g. a `fingerprint`.
    """

    def __init__(self, name: str, content: str) -> None:
        self.path, self.content = VENV / f'{name}.stamp', content

    def __bool__(self) -> bool:
        return self.path.exists() and self.path.read_text() == self.content

    def set(self) -> None:
        """Mark the step as completed."""
        self.path.write_text(self.content)


def write_compiler() -> str:
    """Write a command that compiles for C++20, and return it.

    mmcv asks for C++17, which torch's headers no longer accept. Of several -std, the
    last counts.
    """
    command = VENV / 'c++20'
    compiler = os.environ.get('CXX', 'c++')
    command.write_text(f'#!/bin/sh\nexec {compiler} "$@" -std=c++20\n')
    command.chmod(0o755)
    return str(command)


def precompile_torch_header(compiler: str) -> dict[str, str]:
    """Precompile torch's header, which every source file of mmcv includes.

    A compiler that cannot use the precompiled header ignores it, and so does GCC if
    the options that generate code differ: mmcv gets the same. setuptools leaves out its
    own if there are CFLAGS, -O3 among them.

    Args:
        compiler: Command that compiles mmcv.

    Returns:
        Environment variables for mmcv's build.
    """
    flags = ['-O2', '-DNDEBUG', '-fPIC', '-g0']
    folder = VENV / 'pch'
    folder.mkdir(exist_ok=True)
    header = folder / 'torch_pch.h'
    header.write_text('#include <torch/types.h>\n')
    query = (
        'import sysconfig, torch.utils.cpp_extension as c;'
        'paths = [*c.include_paths(), sysconfig.get_path("include")];'
        'print(*("-I" + path for path in paths))'
    )
    includes = subprocess.run(
        [str(PYTHON), '-c', query], capture_output=True, text=True, check=True
    ).stdout
    command = [
        compiler,
        *flags,
        *includes.split(),
        '-DTORCH_API_INCLUDE_EXTENSION_H',
        '-DTORCH_EXTENSION_NAME=_ext',
        '-x',
        'c++-header',
        str(header),
        '-o',
        f'{header}.gch',
    ]
    if not subprocess.run(command, capture_output=True).returncode:
        flags += ['-include', str(header)]
    return {'CFLAGS': ' '.join(flags), 'CXX': compiler}


def torch_packages() -> list[str]:
    """Return the lock file's requirements of torch and its dependencies."""
    return list(filter(TORCH.match, pinned()))


def install_packages() -> None:
    """Install the pinned packages; compile mmcv while the others are installed."""
    tools = pinned('setuptools', 'wheel', 'ninja', 'psutil')
    Step('Build tools', 'tools', install('tools', tools)).wait()
    torch = torch_packages()
    Step(
        'torch (0.5 GB, and its CUDA libraries, 2 GB)', 'torch', install('torch', torch)
    ).wait()
    compiled = Stamp('mmcv', fingerprint(*torch, *pinned('onedl-mmcv')))
    # Without these flags pip would reuse a cached wheel that was compiled for another
    # torch, or keep the installed one.
    mmcv = (
        None
        if compiled
        else Step(
            "Compiling mmcv's ops",
            'mmcv',
            install(
                'mmcv',
                pinned('onedl-mmcv'),
                '--verbose',
                '--no-cache-dir',
                '--force-reinstall',
            ),
            env=precompile_torch_header(write_compiler()),
        )
    )
    rest = set(pinned()) - set(torch) - set(pinned('onedl-mmcv'))
    try:
        packages = install('packages', sorted(rest))
        Step('Other packages', 'packages', packages).wait()
    finally:
        if mmcv:
            mmcv.wait()
            compiled.set()


def check_installation() -> None:
    """Raise if the compiled ops of mmcv or mmadaptor do not load."""
    for name, statement in {
        # Its first import writes a cache, by one process and not by several at once.
        'mmengine': 'import mmengine.config',
        "mmcv's ops": 'import torch, mmcv._ext',
        "mmadaptor's ops": 'from mmadaptor.ops._extension import require; require()',
    }.items():
        done = subprocess.run(
            [str(PYTHON), '-c', statement], capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            raise SetupError(
                f'{done.stderr.strip()}\n\n{name} failed to load, most likely '
                'because they were compiled for another version of torch. Recreate '
                'the environment: rm -r .venv && make env'
            )


def check_own(made: Stamp) -> None:
    """Raise if another tool made `.venv` and something is installed there."""
    packages = (
        path.stem for path in VENV.glob('lib/python*/site-packages/*.dist-info')
    )
    others = [p for p in packages if not p.startswith(('pip-', 'setuptools-'))]
    if others and not made.path.exists():
        raise SetupError(
            f'{VENV} should be the environment of this command, but is another one, '
            f'with packages such as {min(others)}. Move it to another folder, or '
            'install into it instead: see docs/install.md'
        )


def set_up() -> None:
    """Update `.venv` to the lock file and the sources."""
    check_machine()
    version = '.'.join(map(str, sys.version_info[:3]))
    # Its scripts name their folder, which may have been moved.
    made = Stamp('python', f'{version} in {VENV.resolve()}')
    if not made or not PYTHON.exists():  # a link to a Python that may be gone
        check_own(made)
        print(
            f'Setting up {VENV} with Python {version}; the first setup takes '
            'several minutes.',
            flush=True,
        )
        subprocess.run([sys.executable, '-m', 'venv', '--clear', str(VENV)], check=True)
        made.set()
    packages = Stamp('packages', fingerprint(LOCK))
    if not packages:
        install_packages()
        packages.set()
    sources = sorted(
        p
        for p in (ROOT / 'mmadaptor' / 'csrc').rglob('*')
        if p.suffix in ('.h', '.cpp', '.cu', '.cuh')
    )
    own = Stamp(
        'mmadaptor',
        fingerprint(*torch_packages(), ROOT / 'setup.py', ROOT / 'setup.cfg', *sources),
    )
    if not own or not LIBRARY.exists():  # `make clean` removes it
        # Without an index there is nothing to download, so nothing to check.
        options = '--verbose --no-index --no-deps --no-build-isolation --editable'
        command = pip('install', *options.split(), str(ROOT))
        Step("Compiling mmadaptor's ops", 'mmadaptor', command).wait()
        check_installation()
        own.set()


def main() -> None:
    """Set up the environment, or exit with a message that tells how to fix it."""
    argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        with alone():
            set_up()
    except SetupError as error:
        sys.exit(f'{error}')
    except subprocess.CalledProcessError as error:
        sys.exit(f'{error}. On Debian, "apt-get install python3-venv" may help.')


if __name__ == '__main__':
    main()
