# SPDX-License-Identifier: Apache-2.0
"""Packages that are downloaded by their clients, and refused if they are others."""

import hashlib
from dataclasses import replace

import pytest
from helpers.packages import NEEDS_DPKG, write_deb, write_wheel

from mmadaptor.datasets.packages import Package
from mmadaptor.errors import InputError

ONE = Package('pip', 'deepforest==2.1.0', {'a/b.txt': ''}, 'MIT')


def one(content=b'text'):
    return replace(ONE, files={'a/b.txt': hashlib.sha256(content).hexdigest()})


def test_pip_downloads_a_wheel(tmp_path, monkeypatch):
    (tmp_path / 'index').mkdir()
    meta = 'Metadata-Version: 2.1\nName: deepforest\nVersion: 2.1.0\n'
    write_wheel(
        tmp_path / 'index',
        {
            'a/b.txt': b'text',
            'deepforest-2.1.0.dist-info/METADATA': meta + 'Requires-Dist: absent\n',
            'deepforest-2.1.0.dist-info/WHEEL': 'Wheel-Version: 1.0\n',
        },
    )
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path / 'index'))
    assert one().read() == {'a/b.txt': b'text'}


def test_pip_without_its_registry(monkeypatch):
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.delenv('PIP_FIND_LINKS', raising=False)
    with pytest.raises(InputError) as refused:
        ONE.read()
    assert str(refused.value) == (
        'deepforest==2.1.0 cannot be downloaded by pip: No matching distribution found '
        'for deepforest==2.1.0. Check the network, try again, or pass a downloaded '
        'file with --package'
    )


def put_apt_get(folder, script, monkeypatch):
    """Let `apt-get` be a script; what else is on the path stays there."""
    (folder / 'bin').mkdir()
    (folder / 'bin' / 'apt-get').write_text(f'#!/bin/sh\n{script}\n')
    (folder / 'bin' / 'apt-get').chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}/bin', prepend=':')


APT = Package('apt', 'x', one().files, 'MIT')


@NEEDS_DPKG
def test_apt_downloads_a_package(tmp_path, monkeypatch):
    deb = write_deb(tmp_path, {'a/b.txt': b'text', 'a/c.txt': b'other'})
    put_apt_get(tmp_path, f'echo "$@" > {tmp_path}/called; cp {deb} .', monkeypatch)
    assert APT.read() == {'a/b.txt': b'text'}
    assert (tmp_path / 'called').read_text().endswith('download x\n')


def test_apt_without_its_registry(tmp_path, monkeypatch):
    script = (
        'echo Reading package lists...; echo "E: Unable to locate package x"; exit 100'
    )
    put_apt_get(tmp_path, script, monkeypatch)
    with pytest.raises(InputError) as refused:
        APT.read()
    assert str(refused.value) == (
        'x cannot be downloaded by apt: Unable to locate package x. Check the network, '
        'run `apt-get update`, try again, or pass a downloaded file with --package'
    )


def test_a_system_without_apt(monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(InputError, match='x needs apt-get of Debian or Ubuntu, which'):
        APT.read()


@NEEDS_DPKG
@pytest.mark.parametrize(
    'package, write', [(one(), write_wheel), (replace(one(), client='apt'), write_deb)]
)
def test_other_packages_are_refused(package, write, tmp_path):
    path = write(tmp_path, {'a/b.txt': b'text'})
    assert package.read(path) == {'a/b.txt': b'text'}
    with pytest.raises(
        InputError, match=r'does not contain a/c.txt: expected the pack'
    ):
        replace(package, files={'a/c.txt': ''}).read(path)
    with pytest.raises(
        InputError, match=r'a/b.txt in .* is another file: expected SHA'
    ):
        replace(package, files={'a/b.txt': '0' * 64}).read(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match='is not a whole (wheel|Debian package): '):
        package.read(path)
    path.unlink()
    with pytest.raises(InputError, match='--package must be a file, got '):
        package.read(path)
