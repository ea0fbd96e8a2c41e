# SPDX-License-Identifier: Apache-2.0
"""Damage in checkpoint files, found before their content is used.

torch does not look at the checksums of its zip files, so a flipped bit becomes
another weight. What mmadaptor writes ends with a SHA-256 of all that is before,
as the comment of the zip file, which every reader of torch skips.
"""

import functools
import hashlib
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO

from mmadaptor.errors import DamagedFileError

MARK = b'mmadaptor sha256 '
SEAL = re.compile(rb'[0-9a-f]{64}')
SEALED = len(MARK) + 64  # bytes at the end of the file
CHUNK = 1 << 22
FOLDER = 0x10  # the flag of a folder among a record's attributes
# What zipfile raises on damaged, encrypted and oddly compressed files.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
)
BOMB = 100  # the ratio of sizes at which a compressed file is refused


def _sha256(path: str | Path, length: int) -> bytes:
    """Hash the first bytes of a file."""
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while length > 0 and (chunk := file.read(min(CHUNK, length))):
            total.update(chunk)
            length -= len(chunk)
    return total.hexdigest().encode()


def is_zip(file: IO[bytes]) -> bool:
    """Return whether torch reads an open file as a zip file: by its first bytes."""
    file.seek(0)
    return file.read(4) == b'PK\x03\x04'


def seal(path: str | Path) -> None:
    """Add the digest to a file that `torch.save` wrote.

    Args:
        path: The file; one that is not a zip file is left as it is.
    """
    with open(path, 'rb') as file:
        if not is_zip(file):
            return
    with zipfile.ZipFile(path, 'a') as file:
        file.comment = MARK + b'0' * 64
    length = os.path.getsize(path) - 64
    digest = _sha256(path, length)
    with open(path, 'r+b') as file:
        file.seek(length)
        file.write(digest)


def verify(path: str | Path) -> None:
    """Check the digest of a file, or the checksums if it was written by others.

    A file in torch's format before 1.6 has neither and is not checked.

    Args:
        path: The file. Reading it twice costs once.

    Raises:
        DamagedFileError: A bit is not as it was written.
    """
    status = os.stat(path)
    _verify(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _verify(path: str, inode: int, size: int, modified: int) -> None:
    with open(path, 'rb') as file:
        zipped = is_zip(file)
        file.seek(max(size - SEALED, 0))
        end = file.read()
    # Damage to one of both marks leaves the other.
    sealed = end.startswith(MARK) or (zipped and SEAL.fullmatch(end[-64:]))
    if sealed and _sha256(path, size - 64) != end[-64:]:
        raise DamagedFileError(_sentence(path, 'its SHA-256 is another'))
    if zipped:
        _check_records(path, size, not sealed)


def _check_records(path: str, size: int, checksums: bool) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            records = file.infolist()
            # torch does not compress; who does saves less on weights.
            if sum(record.file_size for record in records) > BOMB * size:
                raise DamagedFileError(_sentence(path, 'its records exceed the file'))
            # torch leaves the memory of such a record as it was.
            if any(r.external_attr & FOLDER and r.file_size for r in records):
                raise DamagedFileError(_sentence(path, 'a record is a folder'))
            if checksums and (bad := file.testzip()) is not None:
                raise DamagedFileError(_sentence(path, f'wrong CRC-32 of {bad}'))
    except UNREADABLE as error:
        raise DamagedFileError(_sentence(path, str(error))) from error


def _sentence(path: str, reason: str) -> str:
    return (
        f'{path} is truncated or damaged ({reason}). Copy or download it again, '
        'or use another file.'
    )
