# SPDX-License-Identifier: Apache-2.0
"""Test what the ops say if torch cannot allocate their results.

The arguments take the memory of a few numbers. The results would take more than a
process can address, so their allocation fails on every machine.
"""

import pathlib
import shutil
import subprocess

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import cpp_extension

from mmadaptor.environment import numbers
from mmadaptor.ops import _dispatch
from mmadaptor.ops._gradients import differentiable

OPS = torch.ops.mmadaptor
SIDE = 2**23
STEPS = SIDE**2
OUT_OF_MEMORY = 'mmadaptor: out of memory: could not allocate a tensor of 8 elements'
# Errors of CUDA by number, as in driver_types.h.
NONE, MEMORY, NOT_READY, ILLEGAL_ADDRESS, CAPTURE = 0, 2, 600, 700, 906


def one(*shape: int) -> Tensor:
    """Return a tensor of ones that takes the memory of one number."""
    return torch.ones(1).expand(shape)


def scan():
    u, A = one(1, 1, STEPS), one(1, 1)
    OPS.selective_scan(u, u, A, A, A, None, None, None, False)


def scan_backward():
    u, A, checkpoints = one(1, 1, STEPS), one(1, 1), one(1, STEPS // 64)
    OPS.selective_scan_backward(
        u, None, u, u, A, A, A, None, None, None, False, checkpoints
    )


def cross_scan():
    x, delta, A = one(1, SIDE, SIDE, 1), one(1, SIDE, SIDE, 4, 1), one(4, 1, 1)
    OPS.cross_selective_scan(x, delta, A, delta, delta, None, None, False, False)


@pytest.mark.parametrize('call', [scan, scan_backward, cross_scan])
def test_running_out_of_memory_has_one_message(call):
    with pytest.raises(RuntimeError, match=OUT_OF_MEMORY.replace('8', str(STEPS))):
        call()


@pytest.mark.skipif(
    numbers(torch.__version__) < [2, 13], reason="torch's message is not known"
)
def test_another_failure_is_not_out_of_memory():
    """More bytes than 64 bits count are an error of the arguments."""
    u, A = one(1, 1, 2**31), one(1, 2**31)
    with pytest.raises(RuntimeError, match='Storage size calculation') as error:
        OPS.selective_scan_states(u, u, A, A, None, False)
    assert str(error.value).startswith('mmadaptor: could not allocate a tensor of ')


def test_only_out_of_memory_becomes_the_error_of_torch():
    with FakeTensorMode():
        tensor = torch.empty(1, device='cuda')
    with pytest.raises(torch.OutOfMemoryError, match=OUT_OF_MEMORY):
        _dispatch.raise_out_of_memory(RuntimeError(OUT_OF_MEMORY), tensor)
    other = RuntimeError(OUT_OF_MEMORY.replace('out of memory: ', ''))
    assert _dispatch.raise_out_of_memory(other, tensor) is None


def test_a_function_that_runs_out_of_memory_raises_the_error_of_torch():
    """Also in inference mode, which passes over the kernel of autograd."""

    def fail(x):
        raise RuntimeError(OUT_OF_MEMORY)

    with FakeTensorMode():
        tensor = torch.empty(1, device='cuda')
    with pytest.raises(torch.OutOfMemoryError, match=OUT_OF_MEMORY):
        differentiable(fail)(fail)(tensor)


@pytest.fixture(scope='module')
def failure(tmp_path_factory):
    """Return a function that returns the error of a failed allocation on a GPU."""
    if shutil.which('nvcc') is None:
        pytest.skip('no nvcc')
    program = tmp_path_factory.mktemp('failure') / 'program'
    source = pathlib.Path(__file__).with_name('allocation_failure.cpp')
    target = '-DTORCH_TARGET_VERSION=0x020a000000000000'
    subprocess.run(
        [
            *(
                'nvcc',
                '-std=c++20',
                '-O0',
                '-cudart',
                'none',
                '-Xcompiler',
                '-rdynamic',
            ),
            *('-DUSE_CUDA', '-DTORCH_STABLE_ONLY', target),
            *(f'-I{path}' for path in cpp_extension.include_paths()),
            *(str(source), '-o', str(program), '-ldl'),
        ],
        check=True,
    )

    def run(message='', last=NONE, of_stream=NONE, captures=False):
        words = [program, message, str(last), str(of_stream), str(int(captures))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        error, asked, left = done.stdout.split('\n')[:3]
        assert left == '0'  # for the next launch
        assert asked == '' or not captures
        return error

    return run


def test_the_message_of_torch_says_whether_memory_is_missing(failure):
    text = 'CUDA out of memory. Tried to allocate 20.00 GiB.'
    assert failure(text, of_stream=ILLEGAL_ADDRESS) == f'{OUT_OF_MEMORY}: {text}'
    text = 'CUDA error: an illegal memory access was encountered'
    expected = OUT_OF_MEMORY.replace('out of memory: ', '')
    assert failure(text) == f'{expected}: {text}'


@pytest.mark.parametrize('error', [NONE, MEMORY, NOT_READY, CAPTURE])
def test_without_a_message_memory_is_missing_if_nothing_else_is_known(failure, error):
    assert failure(of_stream=error) == OUT_OF_MEMORY
    assert failure(of_stream=ILLEGAL_ADDRESS, captures=True) == OUT_OF_MEMORY


@pytest.mark.parametrize('where', ['last', 'of_stream'])
def test_without_a_message_an_earlier_error_is_told(failure, where):
    assert failure(**{where: ILLEGAL_ADDRESS}) == 'CUDA error 700 of earlier work'
