# SPDX-License-Identifier: Apache-2.0
"""Damage in checkpoint files, found before their content is used.

torch does not look at the checksums of its zip files, and safetensors have none,
so a flipped bit becomes another weight. What mmadaptor writes holds a SHA-256 of
all of its other bytes: at the end, as the comment of a zip file, or in the metadata
of safetensors. Other readers pass over both.
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
SEALED = len(MARK) + 64  # bytes
NO_DIGEST = MARK.decode() + '0' * 64
CHUNK = 1 << 22
LONGEST_HEADER = 100_000_000  # that safetensors reads
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


def _sha256(path: str | Path, place: int) -> bytes:
    """Hash all of a file except the 64 bytes of the digest at `place`."""
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while place > 0 and (chunk := file.read(min(CHUNK, place))):
            total.update(chunk)
            place -= len(chunk)
        file.seek(64, os.SEEK_CUR)
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest().encode()


def is_zip(file: IO[bytes]) -> bool:
    """Return whether torch reads an open file as a zip file: by its first bytes."""
    file.seek(0)
    return file.read(4) == b'PK\x03\x04'


def is_safetensors(file: IO[bytes]) -> bool:
    """Return whether an open file has the beginning of safetensors.

    That is the length of the header, in eight bytes, and the header. What torch writes,
    as a zip file or a pickle, does not begin like this.
    """
    file.seek(0)
    length, header = file.read(8), file.read(1)
    return header == b'{' and int.from_bytes(length, 'little') <= LONGEST_HEADER


def _place_in_header(file: IO[bytes]) -> int | None:
    """Return where the header of open safetensors has its digest, if it has one."""
    if not is_safetensors(file):
        return None
    file.seek(0)
    length = int.from_bytes(file.read(8), 'little')
    found = re.search(MARK + b'.{64}', file.read(length))
    return None if found is None else 8 + found.end() - 64


def seal(path: str | Path) -> None:
    """Add the digest to a file that `torch.save` or safetensors wrote.

    Args:
        path: The file. Safetensors have `NO_DIGEST` in their metadata. A file of
            another format is left as it is.
    """
    with open(path, 'rb') as file:
        zipped, place = is_zip(file), _place_in_header(file)
    if zipped:
        with zipfile.ZipFile(path, 'a') as archive:
            archive.comment = NO_DIGEST.encode()
        place = os.path.getsize(path) - 64
    if place is not None:
        digest = _sha256(path, place)
        with open(path, 'r+b') as file:
            file.seek(place)
            file.write(digest)


def verify(path: str | Path) -> None:
    """Check the digest of a file, or the checksums if it was written by others.

    A file in torch's format before 1.6 has neither and is not checked, nor are
    safetensors of others.

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
        zipped, place = is_zip(file), _place_in_header(file)
        file.seek(max(size - SEALED, 0))
        end = file.read()
        # Damage to one of both marks leaves the other.
        if end.startswith(MARK) or (zipped and SEAL.fullmatch(end[-64:])):
            place = size - 64
        if place is not None:
            file.seek(place)
            if _sha256(path, place) != file.read(64):
                raise DamagedFileError(_sentence(path, 'its SHA-256 is another'))
    if zipped:
        _check_records(path, size, place is None)


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
