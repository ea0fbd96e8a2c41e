# SPDX-License-Identifier: Apache-2.0
"""Damage is found; the digest opens no door, and other readers pass over it."""

import hashlib
import os
import pickle
import zipfile

import pytest
import torch
from helpers import hostile

from mmadaptor.checkpoints import integrity
from mmadaptor.checkpoints.integrity import _verify, seal, verify
from mmadaptor.checkpoints.loading import peek, read_checkpoint
from mmadaptor.errors import DamagedFileError, InputError


@pytest.fixture
def small(tmp_path):
    path = tmp_path / 'small.pth'
    torch.save(
        dict(meta=dict(epoch=1), state_dict=dict(weight=torch.arange(4.0))), path
    )
    return path


def flips(path):
    """Yields each bit of a file, when it is flipped."""
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        _verify.cache_clear()  # the time of a file may be too coarse
        yield bit


def test_every_flipped_bit_of_a_sealed_file_is_detected(small):
    seal(small)
    torch.testing.assert_close(
        torch.load(small)['state_dict']['weight'], torch.arange(4.0)
    )
    for bit in flips(small):
        with pytest.raises(DamagedFileError, match=r'small\.pth is truncated or'):
            peek(str(small))
            pytest.fail(f'bit {bit} was not detected')


def test_a_file_of_many_chunks_is_hashed_as_a_whole(small, monkeypatch):
    """Checkpoints are larger than a chunk, and these files are smaller."""
    monkeypatch.setattr(integrity, 'CHUNK', 100)
    seal(small)
    whole = small.read_bytes()
    assert whole[-64:] == hashlib.sha256(whole[:-64]).hexdigest().encode()
    verify(small)
    for place in range(50, len(whole), 100):
        small.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        )
        _verify.cache_clear()
        with pytest.raises(DamagedFileError, match='its SHA-256 is another'):
            verify(small)


def test_a_file_that_has_changed_is_checked_again(small):
    """In its place and of the same size: only its time is another."""
    seal(small)
    verify(small)
    whole = small.read_bytes()
    small.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    os.utime(small, (1, 1))
    with pytest.raises(DamagedFileError, match='its SHA-256 is another'):
        verify(small)


def test_a_seal_is_no_pass(tmp_path):
    """Anyone can write one; what is refused without it is refused with it."""
    for stem in ('compressed_bomb', 'reduce', 'deep'):
        files = {**hostile.lying(), **hostile.planted(tmp_path / 'ran')}
        (tmp_path / 'sealed.pth').write_bytes(files[stem])
        seal(tmp_path / 'sealed.pth')
        with pytest.raises(InputError):
            read_checkpoint(str(tmp_path / 'sealed.pth'))
    assert not (tmp_path / 'ran').exists()


def test_no_flipped_bit_of_another_file_changes_what_is_read(small):
    """Checksums cover the records; of the rest, nothing is read but names."""
    whole, undetected = peek(str(small)), 0
    for bit in flips(small):
        try:
            content = read_checkpoint(str(small))
        except InputError:
            continue
        undetected += 1
        assert pickle.dumps(content['meta']) == pickle.dumps(whole['meta']), bit
        torch.testing.assert_close(
            content['state_dict'], whole['state_dict'], rtol=0, atol=0
        )
    assert undetected < 8 * small.stat().st_size / 2


def test_other_readers_pass_over_the_digest(small):
    expected = torch.load(small)
    seal(small)
    assert zipfile.ZipFile(small).testzip() is None
    for mmap in (False, True):
        torch.testing.assert_close(torch.load(small, mmap=mmap), expected)


def test_what_is_repacked_is_read(small, tmp_path):
    """With folders among its records, compressed, and with a comment of its own."""
    with zipfile.ZipFile(small) as old, zipfile.ZipFile(tmp_path / 'b.pth', 'w') as new:
        for record in old.infolist():
            name = record.filename.replace('small/', 'b/', 1)
            new.writestr(name, old.read(record), zipfile.ZIP_DEFLATED)
        new.writestr('b/data/', b'')
        new.comment = b'packed by someone else'
    content = read_checkpoint(str(tmp_path / 'b.pth'))
    torch.testing.assert_close(content['state_dict']['weight'], torch.arange(4.0))
