# SPDX-License-Identifier: Apache-2.0
"""Weights as safetensors: what was written is read, by us and by others."""

import errno
import io
import json
import os

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmadaptor.checkpoints.integrity import (
    LONGEST_HEADER,
    MARK,
    _verify,
    is_safetensors,
)
from mmadaptor.checkpoints.loading import peek, read_checkpoint
from mmadaptor.checkpoints.openmmlab import register_safe_loaders
from mmadaptor.checkpoints.writing import save
from mmadaptor.errors import CheckpointWriteError, DamagedFileError, InputError

META = dict(
    epoch=3,
    dataset_meta=dict(
        classes=('a', 'b'),
        palette=np.eye(2),
        label_map={0: 1, 2: None},
        scale=1e-3,
        count=np.int64(7),
    ),
)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'small.safetensors')


def equal(read, weights):
    assert read.keys() == weights.keys()
    for name, value in weights.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


def test_what_is_written_is_read(path):
    whole = torch.randn(4, 3)
    weights = {
        'a': whole[1:],
        'b': whole.T,
        'c': whole,
        'half': torch.randn(2).bfloat16(),
        'steps': torch.tensor(7),
        'empty': torch.zeros(0, 2),
        'parameter': torch.nn.Parameter(torch.ones(1)),
    }
    save(dict(meta=META, state_dict=weights), path)
    weights['parameter'] = weights['parameter'].detach()
    for content in (read_checkpoint(path), peek(path), renamed(path)):
        equal(content['state_dict'], weights)
        assert content['meta'] == dict(
            epoch=3,
            dataset_meta=dict(
                classes=('a', 'b'),
                palette=[[1.0, 0.0], [0.0, 1.0]],
                label_map={0: 1, 2: None},
                scale=1e-3,
                count=7,
            ),
        )
    equal(load_file(path), weights)


def test_a_file_has_the_mode_of_any_other(path):
    mask = os.umask(0o027)
    try:
        save(dict(state_dict=dict(weight=torch.ones(1))), path)
        assert os.umask(0o027) == 0o027
        assert os.stat(path).st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)


def renamed(path):
    """Read a file whose name says another format."""
    other = path.replace('.safetensors', '.pth')
    with open(path, 'rb') as source, open(other, 'wb') as target:
        target.write(source.read())
    return read_checkpoint(other)


@pytest.mark.parametrize(
    'meta',
    [
        dict(palette=[(220, 20, 60), (0, 0, 142)], size=((1, 2), ())),
        {(1, 2): 'a', None: [('b',)]},
        {'__items__': [[1, 2]]},
        {'a': {'__tuple__': [1, (2,)]}},
    ],
)
def test_meta_is_read_as_it_was(path, meta):
    save(dict(meta=meta, state_dict=dict(weight=torch.ones(1))), path)
    assert read_checkpoint(path)['meta'] == meta


def test_the_same_content_gives_the_same_bytes(path):
    """Names of any characters too, which the header has in escapes."""
    odd = 'ä"\\\n\t\x01\x7f\u2028\U0001f600/'
    content = dict(meta={odd: odd}, state_dict={odd: torch.ones(3), 'b': torch.ones(1)})
    written = set()
    for _ in range(12):
        save(content, path)
        with open(path, 'rb') as file:
            written.add(file.read())
    assert len(written) == 1
    assert read_checkpoint(path)['meta'] == content['meta']
    equal(load_file(path), content['state_dict'])


def test_files_of_others_are_read(path):
    save_file({'weight': torch.ones(2)}, path)
    content = read_checkpoint(path, 'meta')
    assert content['state_dict']['weight'].device.type == 'meta'
    assert content.keys() == {'state_dict'}
    digits = torch.full((64,), ord('a'), dtype=torch.uint8)  # as a digest has them
    save_file({'weight': digits}, path)
    assert torch.equal(read_checkpoint(path)['state_dict']['weight'], digits)


def test_headers_of_any_length_are_read(path):
    """The first byte is the length, modulo 256: also that of a pickle, or of `PK`."""
    weights, seen = {'weight': torch.ones(2)}, set()
    for length in (*range(256), 0x4B50 - 90):
        save_file(weights, path, {'note': 'x' * length})
        with open(path, 'rb') as file:
            seen.add(file.read(2))
        equal(read_checkpoint(path)['state_dict'], weights)
    assert {start[0] for start in seen} == set(range(0, 256, 8))
    assert b'PK' in seen


def test_mmengine_loads_it_into_a_model(path):
    save(dict(state_dict=dict(weight=torch.ones(1, 2), bias=torch.zeros(1))), path)
    register_safe_loaders()
    model = torch.nn.Linear(2, 1)
    load_checkpoint(model, path, map_location=lambda storage, _: storage, strict=True)
    assert torch.equal(model.weight, torch.ones(1, 2))


def test_every_flipped_bit_is_detected_or_changes_nothing(path):
    """A flip of the mark of the digest makes it a file of others."""
    save(dict(meta=dict(epoch=1), state_dict=dict(weight=torch.arange(4.0))), path)
    with open(path, 'rb') as file:
        whole = file.read()
    undetected = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with open(path, 'wb') as file:
            file.write(damaged)
        _verify.cache_clear()
        try:
            content = read_checkpoint(path)
        except DamagedFileError:
            continue
        undetected += 1
        assert content['meta'] == dict(epoch=1)
        equal(content['state_dict'], dict(weight=torch.arange(4.0)))
    assert undetected <= 8 * len(MARK)


@pytest.mark.parametrize(
    ('header', 'data'),
    [
        ({'x': dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])}, b''),
        ({'x': dict(dtype='F32', shape=[2], data_offsets=[0, 4])}, b'0000'),
        ({'x': dict(dtype='eval', shape=[1], data_offsets=[0, 4])}, b'0000'),
        ({'__metadata__': dict(mmadaptor_meta='[' * 100000)}, b''),
        ({'__metadata__': dict(mmadaptor_meta='{"__items__": 3}')}, b''),
        ({'__metadata__': dict(mmadaptor_meta='{"__items__": [[[], 1]]}')}, b''),
        ({'__metadata__': dict(mmadaptor_meta='{"__tuple__": 3}')}, b''),
        ({'__metadata__': dict(mmadaptor_meta='print(1)')}, b''),
    ],
    ids=['huge', 'overlong', 'type', 'deep', 'items', 'key', 'tuple', 'code'],
)
def test_hostile_files_are_refused(path, header, data):
    text = json.dumps(header).encode()
    with open(path, 'wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text + data)
    with pytest.raises(DamagedFileError, match='truncated or'):
        read_checkpoint(path)


def test_a_tensor_with_the_name_of_the_metadata_is_refused(path):
    with pytest.raises(InputError, match='a tensor named __metadata__'):
        save(dict(state_dict=dict(__metadata__=torch.ones(1))), path)


@pytest.mark.parametrize('length', [0, LONGEST_HEADER + 1, 2**63, 2**64 - 1])
def test_a_header_of_another_length_is_refused(path, length):
    content = length.to_bytes(8, 'little') + b'{}'
    # So that not as many bytes are read as the file says.
    assert is_safetensors(io.BytesIO(content)) == (length <= LONGEST_HEADER)
    with open(path, 'wb') as file:
        file.write(content)
    with pytest.raises(DamagedFileError, match='truncated or'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            dict(state_dict={}, optimizer={}),
            'one state dict, got state_dict, optimizer',
        ),
        (dict(state_dict=dict(x=[1])), 'dense tensors, got x of type list'),
        (
            dict(state_dict=dict(x=torch.ones(2).to_sparse())),
            r'dense tensors, got x of type torch\.sparse_coo',
        ),
        (
            dict(state_dict=dict(x=torch.ones(1, dtype=torch.complex128))),
            r'cannot hold the type torch\.complex128',
        ),
        (dict(meta=dict(a={1}), state_dict={}), 'plain values, got set'),
    ],
    ids=['two', 'list', 'sparse', 'type', 'set'],
)
def test_what_it_cannot_hold_is_named(path, content, message):
    with pytest.raises(InputError, match=message):
        save(content, path)


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    save(dict(state_dict=dict(x=torch.zeros(1))), path)

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(CheckpointWriteError, match='No space left'):
        save(dict(state_dict=dict(x=torch.ones(1))), path)
    with safe_open(path, 'pt') as file:
        assert file.get_tensor('x') == 0
