# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint may hold becomes what was saved; nothing else is called."""

import argparse
import os
import pickle
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import hostile
from helpers.jobs import ROOT
from mmengine.config import ConfigDict

from mmadaptor.checkpoints.allowed import ALLOWED, allowed_objects
from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.errors import UnsafeCheckpointError

FUZZER = ROOT / 'tests' / 'security' / 'fuzz_allowed.py'


@pytest.mark.parametrize('seed', [0, 1])
def test_everything_that_a_file_may_name_is_called(seed):
    """A fuzzer over torch's list and ours, with arguments of every kind."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / 'tests')))
    output = subprocess.run(
        [sys.executable, '-W', 'ignore', str(FUZZER), '2000', str(seed)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
    )
    assert output.returncode == 0, output.stderr[-2000:]
    assert ' 0 events []' in output.stdout


def test_what_it_reads_is_saved_as_mmengine_does(tmp_path):
    """A file that went through our reader names no class of ours."""
    from mmengine.logging.history_buffer import HistoryBuffer

    content = dict(
        hub=HistoryBuffer([1.0, 2.0], [1, 1], max_length=7),
        args=argparse.Namespace(lr=0.1),
        part=slice(1, None),
        array=np.arange(6, dtype='i4').reshape(2, 3).T,
        text=np.array(['a', 'bc']),
        big=np.arange(3, dtype='>i2'),
        number=np.float32(0.5),
        empty=np.zeros((0, 3)),
        nested=dict(kind=[np.dtype('<f4')], pair=(np.arange(2), 'a')),
        names=ConfigDict(classes=('a',), skeleton=dict(joint=1)),
    )
    torch.save(content, tmp_path / 'a.pth')
    read = read_checkpoint(str(tmp_path / 'a.pth'))
    for key in ('array', 'text', 'empty'):
        np.testing.assert_array_equal(read[key], content[key])
        assert type(read[key]) is np.ndarray
        assert read[key].dtype == content[key].dtype
    np.testing.assert_array_equal(read['big'], [0, 1, 2])  # in the order of the CPU
    assert type(read['number']) is np.float32 and read['number'] == 0.5
    assert read['nested']['kind'] == [np.dtype('<f4')]
    assert type(read['nested']['pair'][0]) is np.ndarray
    assert read['names'] == dict(classes=('a',), skeleton=dict(joint=1))
    assert type(read['hub']) is HistoryBuffer and read['hub'].mean() == 1.5
    assert read['hub'].max_length == 7
    assert read['part'] == slice(1, None)
    assert type(read['args']) is argparse.Namespace and read['args'].lr == 0.1
    torch.save(read, tmp_path / 'b.pth')
    assert b'mmadaptor' not in (tmp_path / 'b.pth').read_bytes()
    torch.save({k: read[k] for k in ('array', 'text')}, tmp_path / 'c.pth')
    np.testing.assert_array_equal(
        torch.load(tmp_path / 'c.pth', weights_only=False)['array'], content['array']
    )


@pytest.mark.parametrize('module', [b'numpy.core', b'numpy._core'])
def test_arrays_of_both_versions_of_numpy_are_read(module, tmp_path):
    content = dict(array=np.arange(3), number=np.float32(0.5), empty=np.zeros(0))
    code = re.sub(rb'numpy\._?core', module, pickle.dumps(content, 2))
    (tmp_path / 'a.pth').write_bytes(hostile.archive(code))
    read = read_checkpoint(str(tmp_path / 'a.pth'))
    np.testing.assert_array_equal(read['array'], content['array'])
    assert read['number'] == 0.5 and read['empty'].shape == (0,)


def test_what_the_program_has_allowed_is_read(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(x=torch.ones(1), half=Half(3)), path)
    with pytest.raises(UnsafeCheckpointError, match='Half'):
        read_checkpoint(str(path))
    with torch.serialization.safe_globals([Half, getattr, np.ndarray]):
        before = set(torch.serialization.get_safe_globals())
        assert read_checkpoint(str(path))['half'].of == 3
        assert set(torch.serialization.get_safe_globals()) == before
    assert before.isdisjoint(ALLOWED)


class Half:
    """An object of a user."""

    def __init__(self, of):
        self.of = of


def test_the_list_is_torchs_again_after_an_error():
    before = set(torch.serialization.get_safe_globals())
    assert before.isdisjoint(ALLOWED)
    with pytest.raises(ZeroDivisionError), allowed_objects():
        assert set(ALLOWED) <= set(torch.serialization.get_safe_globals())
        Fraction(1, 0)
    assert set(torch.serialization.get_safe_globals()) == before
