# SPDX-License-Identifier: Apache-2.0
"""A pickle is refused by what it calls, its depth and its size, before it is read."""

import io
import pickle
import pickletools
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch
from helpers import hostile as h

from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.checkpoints.opcodes import DEPTH, check_opcodes
from mmadaptor.errors import InputError


def check(content):
    return check_opcodes(io.BytesIO(content))


def nested(depth):
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize('zipped', [True, False])
def test_what_torch_saves_passes(zipped):
    content = dict(
        state_dict=OrderedDict(a=torch.ones(2), b=torch.nn.Parameter(torch.ones(1))),
        counts=Counter('aab'),
        keys={1: 'a', ('a', 2): torch.Size([3]), None: {'x', 'y'}, b'k': 2.5, 1j: True},
        bytes=bytearray(b'ab'),
        shared=[[torch.device('cpu'), torch.float16]] * 99,
        half=torch.ones(2, dtype=torch.bfloat16)[::2],
        nested=nested(DEPTH - 3),
    )
    saved = h.saved(content, _use_new_zipfile_serialization=zipped)
    assert check(saved) == zipped


@pytest.mark.parametrize(
    'parts, said',
    [
        ([h.DOUBLED], 'more than 10000000 objects'),
        ([b'N', b'\x85' * 101], 'more than 100 objects in each other'),
        ([b']q\x63h\x63a'], 'an object that holds itself'),
        ([b']q\x63]h\x63ah\x63Na'], 'an object that holds itself'),
        ([b'}]Ns'], 'a dict whose keys are no texts or numbers'),
        ([h.encoded(1)], 'a call of _codecs.encode with other arguments'),
        ([h.call(h.name('os', 'mkdir'), h.text('a'))], 'GLOBAL os.mkdir was not'),
        ([h.call(h.call(h.name('builtins', 'set')))], 'GLOBAL a.call was not'),
        ([b'\x8c\x01a'], 'the opcode SHORT_BINUNICODE of pickle'),
    ],
)
def test_what_it_never_saves_is_named(parts, said):
    with pytest.raises(pickle.UnpicklingError, match=said):
        check(h.archive(h.code(*parts)))


def test_one_object_deeper_is_too_deep():
    check(h.saved(dict(nested=nested(DEPTH - 1))))
    with pytest.raises(pickle.UnpicklingError, match='in each other'):
        check(h.saved(dict(nested=nested(DEPTH))))


@pytest.mark.parametrize('name', ['archive/data.pkl', 'archive/DATA.pkl'])
@pytest.mark.parametrize('first', [True, False])
def test_every_record_that_torch_may_take_is_checked(name, first):
    """Of two of a name Python's reader takes the last one; torch ignores the case."""
    good, bad = h.code(b'N'), h.code(h.DOUBLED)
    buffer = io.BytesIO()
    records = [('archive/data.pkl', good), (name, bad)]
    with zipfile.ZipFile(buffer, 'w') as file:
        for record in records[::-1] if first else records:
            file.writestr(*record)
    with pytest.raises(pickle.UnpicklingError, match='more than 10000000 objects'):
        check(buffer.getvalue())


@pytest.mark.parametrize('place', range(5))
def test_each_pickle_of_the_format_before_torch_1_6_is_checked(place):
    good = io.BytesIO(h.saved(torch.ones(2), _use_new_zipfile_serialization=False))
    for _ in range(place):
        list(pickletools.genops(good))
    start = good.getvalue()[: good.tell()]
    planted = h.code(h.call(h.name('os', 'mkdir'), h.text('a')))
    with pytest.raises(pickle.UnpicklingError, match=r'GLOBAL os\.mkdir'):
        check(start + planted)


def test_a_zip_file_behind_another_format_hides_nothing(tmp_path):
    """torch goes by the first bytes; zipfile looks at the end."""
    path = tmp_path / 'both.pth'
    old = h.saved(dict(x=h.Call(print, 'ran')), _use_new_zipfile_serialization=False)
    path.write_bytes(old + h.archive(h.code(b'N')))
    with pytest.raises(pickle.UnpicklingError, match=r'GLOBAL builtins\.print'):
        check(path.read_bytes())
    with pytest.raises(Exception, match='both.pth'):
        read_checkpoint(str(path))


@pytest.mark.parametrize('zipped', [True, False])
def test_protocol_3_is_read_as_torch_reads_it(zipped, tmp_path):
    content = dict(state_dict=dict(a=torch.ones(2)), meta=dict(n=[1, 2.5, 'x', None]))
    path = tmp_path / 'third.pth'
    form = dict(_use_new_zipfile_serialization=zipped)
    torch.save(content, path, pickle_protocol=3, **form)
    got, expected = read_checkpoint(str(path)), torch.load(path)
    assert got['meta'] == expected['meta'] == content['meta']
    assert torch.equal(got['state_dict']['a'], content['state_dict']['a'])


@pytest.mark.parametrize('protocol, more', [(4, {}), (5, {}), (3, dict(b=b'bytes'))])
def test_other_protocols_are_said_to_be_that(protocol, more, tmp_path):
    path = tmp_path / 'fourth.pth'
    torch.save(dict(a=torch.ones(2), **more), path, pickle_protocol=protocol)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    says = rf'fourth\.pth has .*pickle protocol {protocol}, which .*expected protocol 2'
    with pytest.raises(InputError, match=says) as error:
        read_checkpoint(str(path))
    assert 'truncated' not in str(error.value)
    assert 'download' not in str(error.value)
