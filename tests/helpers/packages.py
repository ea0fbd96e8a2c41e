# SPDX-License-Identifier: Apache-2.0
"""Small packages with files of data."""

import shutil
import subprocess
import zipfile

import pytest

NEEDS_DPKG = pytest.mark.skipif(
    not shutil.which('dpkg-deb'), reason='a Debian package is made by dpkg-deb'
)


def write_wheel(folder, contents):
    path = folder / 'deepforest-2.1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.writestr('deepforest/main.py', 'raise SystemExit')
    return path


def write_deb(folder, contents):
    control = (
        'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n'
    )
    tree = folder / 'tree'
    for name, content in {'DEBIAN/control': control.encode(), **contents}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    subprocess.run(
        ['dpkg-deb', '--root-owner-group', '--build', tree, folder / 'x.deb'],
        check=True,
        capture_output=True,
    )
    return folder / 'x.deb'
