# SPDX-License-Identifier: Apache-2.0
"""Dataset folders that are complete or absent.

A dataset is written to a temporary folder, which is renamed when all its files are
there. The stamp, a JSON file with the name of the dataset, holds the arguments it was
made with, and number and digest of the other files.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def stamp_file(root: Path, name: str) -> Path:
    """Return the path of the stamp of the dataset `name` in a folder."""
    return root / f'{name}.json'


def check_root(root: str | Path, name: str) -> Path:
    """Return the folder without symbolic links; it need not exist.

    Args:
        root: Folder of the dataset.
        name: Name of the dataset.

    Raises:
        NotADirectoryError: It is a file.
        FileExistsError: It has other content than this dataset.
    """
    root = Path(root).resolve()
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(
            f'{name}: `root` must be a folder, got the file {root}'
        )
    if root.is_dir() and read_stamp(root, name) is None and any(root.iterdir()):
        raise FileExistsError(
            f'{name}: `root` must be a new or empty folder, or contain this '
            f'dataset; {root} contains other files (no valid {name}.json). '
            'Choose another folder, or empty this one'
        )
    return root


def read_stamp(root: Path, name: str) -> dict | None:
    """Return the stamp of a dataset, or None if there is no valid one."""
    path = stamp_file(root, name)
    if not path.is_file():
        return None
    try:
        stamp = json.loads(path.read_text())
        return stamp if stamp['name'] == name else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def count_files(root: Path, name: str) -> int:
    """Count the files in a folder and its subfolders, without the stamp."""
    total = sum(len(files) for _, _, files in os.walk(root))
    return total - stamp_file(root, name).exists()


def digest_files(root: Path, name: str) -> str:
    """Return a digest of the names and contents of all files, without the stamp.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for folder, subfolders, files in os.walk(root):
        subfolders.sort()
        digest.update(os.fsencode(os.path.relpath(folder, root)))
        for file in sorted(files):
            path = os.path.join(folder, file)
            if path == str(stamp_file(root, name)):
                continue
            content = b''
            if os.path.isfile(path):  # reading a pipe does not end
                with open(path, 'rb', buffering=0) as opened:
                    content = opened.read()
            digest.update(os.fsencode(f'/{file}/{len(content)}/'))
            digest.update(content)
    return digest.hexdigest()


def damage(root: Path, name: str, wanted: dict) -> str:
    """Return why a folder is not the complete dataset; empty if it is.

    Args:
        root: Folder of the dataset.
        name: Name of the dataset.
        wanted: Expected entries of its stamp.
    """
    stamp = read_stamp(root, name)
    if stamp is None:
        return 'there is no dataset yet'
    if {key: stamp.get(key) for key in wanted} != wanted:
        return 'the dataset was made with other arguments'
    if (count := count_files(root, name)) != stamp.get('files'):
        return f'the dataset has {count} files instead of {stamp.get("files")}'
    try:
        whole = digest_files(root, name) == stamp.get('digest')
    except OSError as error:
        return f'the dataset cannot be read ({error})'
    return '' if whole else 'files of the dataset are damaged or were changed'


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock file next to a folder; the kernel releases it if the process dies.

    Args:
        root: Folder of the dataset.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f'.{root.name}.lock', 'a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def fresh_folder(root: Path, name: str, wanted: dict) -> Iterator[Path]:
    """Yield a temporary folder that replaces the dataset if no exception is raised.

    Args:
        root: Folder of the dataset. Hold its lock.
        name: Name of the dataset.
        wanted: Entries of its stamp.

    Raises:
        FileExistsError: Files were added to the dataset, which would be removed.
    """
    stamp = read_stamp(root, name) or {}
    has, had = count_files(root, name), stamp.get('files')
    if isinstance(had, int) and has > had:
        raise FileExistsError(
            f'{name}: {root} is to be made again, but has {has} files instead of '
            f'{had}: move yours out of it, or remove the folder'
        )
    fresh = root.parent / f'.{root.name}.partial'
    stale = root.parent / f'.{root.name}.old'
    for leftover in (fresh, stale):
        if leftover.exists():
            shutil.rmtree(leftover)
    try:
        fresh.mkdir()
        yield fresh
        write_stamp(fresh, name, wanted)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if read_stamp(root, name) is not None:
        root.rename(stale)
    fresh.rename(root)
    shutil.rmtree(stale, ignore_errors=True)


def write_stamp(root: Path, name: str, wanted: dict) -> None:
    """Write the stamp, to the disk itself: without it a dataset is never replaced.

    Files damaged by a power cut do not match its digest.

    Args:
        root: Folder of the dataset.
        name: Name of the dataset.
        wanted: Entries of the stamp.
    """
    stamp = dict(
        name=name,
        **wanted,
        files=count_files(root, name),
        digest=digest_files(root, name),
    )
    with stamp_file(root, name).open('w') as file:
        file.write(json.dumps(stamp, indent=1) + '\n')
        file.flush()
        os.fsync(file.fileno())
