# SPDX-License-Identifier: Apache-2.0
"""Test what the ops on CUDA refuse and those on a CPU do not.

Runs on the emulated device of test_cuda_emulation.py.
"""

import os

import pytest
import torch
from cases import Case
from test_cross_selective_scan import make

from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
    dilated_depthwise,
    memory_readout,
    memory_select,
    selective_scan,
    selective_scan_states,
)

pytestmark = pytest.mark.skipif(
    'EMULATION_LIBRARY' not in os.environ, reason='needs the emulated device'
)
STRIDE = 2**31 - 2**16
REFUSED = f'strides between pixels and states below 536854527, got 2 and {STRIDE}'


def far(t, dim, folder):
    """Return the tensor with a large stride in a dimension, in a sparse file."""
    strides = list(t.stride())
    strides[dim] = STRIDE
    size = 1 + sum((n - 1) * s for n, s in zip(t.shape, strides, strict=True))
    file = str(folder / 'sparse')
    memory = torch.from_file(file, shared=True, size=size, dtype=t.dtype)
    return memory.as_strided(t.shape, strides).copy_(t.detach())


@pytest.mark.parametrize('name', ['x', 'delta', 'B', 'C'])
def test_a_large_stride_of_a_map_is_refused(name, tmp_path):
    inputs = make(1, 1, 2, 3, 1, torch.bfloat16)
    inputs[name] = far(inputs[name], 2, tmp_path)
    with pytest.raises(RuntimeError, match=REFUSED):
        cross_selective_scan(**inputs)


@pytest.mark.parametrize('which', [0, 1])
def test_a_large_stride_of_a_gradient_of_a_map_is_refused(which, tmp_path):
    inputs = make(1, 1, 2, 3, 1, torch.float32)
    results = cross_selective_scan(**inputs, return_states=True)
    gradients = [torch.ones_like(r) for r in results]
    gradients[which] = far(gradients[which], 2, tmp_path)
    with pytest.raises(RuntimeError, match=REFUSED):
        torch.autograd.backward(results, gradients)


def test_a_large_stride_of_a_gradient_of_states_is_refused(tmp_path):
    inputs = make(1, 1, 2, 3, 1, torch.float32)
    del inputs['C'], inputs['D']
    states = cross_selective_scan_states(**inputs)
    with pytest.raises(RuntimeError, match=REFUSED):
        states.backward(far(torch.ones_like(states), 2, tmp_path))


@pytest.mark.parametrize('op', [selective_scan, selective_scan_states])
def test_a_large_stride_of_a_gradient_of_a_sequence_is_refused(op, tmp_path):
    inputs = Case(1, 3, length=2, skip=False, channels_last=True).inputs(torch.float32)
    if op is selective_scan_states:
        del inputs['C']
    result = op(**inputs, delta_softplus=True)
    with pytest.raises(RuntimeError, match=REFUSED):
        result.backward(far(torch.ones_like(result), result.dim() - 1, tmp_path))


@pytest.mark.parametrize('op', [cross_selective_scan, selective_scan])
def test_states_beyond_the_shared_memory_are_refused(op):
    inputs = make(1, 2, 2, 3, 256, torch.float32)
    if op is selective_scan:
        inputs = Case(1, 3, states=256).inputs(torch.float32)
    message = r'256 states take \d+ bytes of shared memory .* has 9000'
    with pytest.raises(RuntimeError, match=message):
        op(**inputs)


def one(*shape):
    """Return a tensor of ones that takes the memory of one number."""
    return torch.ones(1).expand(shape)


def test_a_large_image_of_places_is_refused():
    places = (1, 1, 1, 1, 1, 2**30)
    message = (
        r'`locations` must have fewer than 2\^31 numbers per image, got 2147483648'
    )
    with pytest.raises(RuntimeError, match=message):
        memory_select(one(1, 1, 1, 1, 1, 1), one(*places, 2), one(*places))


def test_a_large_image_of_values_is_refused():
    pixels = (1, 1, 1, 1)
    message = r'`values` must have fewer than 2\^31 numbers per image, got 2147483648'
    with pytest.raises(RuntimeError, match=message):
        memory_readout(one(*pixels, 2**31), one(*pixels, 3), [1.0], one(*pixels))


def test_many_tokens_are_refused():
    pixels = (2**31, 1, 1, 1)
    message = r'directions x groups must be less than 2\^31, got 2147483648'
    with pytest.raises(RuntimeError, match=message):
        memory_readout(one(*pixels, 1), one(*pixels, 3), [1.0], one(*pixels))
    with pytest.raises(RuntimeError, match=message):
        memory_select(one(*pixels, 1, 1), one(*pixels, 1, 1, 2), one(*pixels, 1, 1))


def test_many_granularities_are_refused():
    pixels = (1, 1, 1, 1)
    with pytest.raises(RuntimeError, match='at most 64 `granularities`, got 65'):
        memory_readout(one(*pixels, 65), one(*pixels, 3 * 65), [1.0] * 65, one(*pixels))


def many(count, *shape):
    """Return ones, `count` times the first, that take the memory of the first."""
    return torch.ones(1, *shape).expand(count, *shape)


def test_many_blocks_of_a_scan_are_refused():
    message = r'segments x blocks of channels must be less than 2\^31, got \d+$'
    x, B = many(2**31, 1, 1, 1), many(2**31, 1, 1, 4, 1)
    A = -torch.ones(4, 1, 1)
    with pytest.raises(RuntimeError, match=message):
        cross_selective_scan(x, B, A, B, B)
    with pytest.raises(RuntimeError, match=message):
        cross_selective_scan_states(x, B, A, B)
    u, A = many(2**31, 1, 1), -torch.ones(1, 1)
    with pytest.raises(RuntimeError, match=message):
        selective_scan(u, u, A, A, A)


def test_many_parts_of_a_gradient_are_refused():
    u, A, checkpoints = many(2**28, 1, 1), -torch.ones(1, 1), many(2**28, 1)
    with pytest.raises(
        RuntimeError, match=r'segments x pieces must be less than 2\^31, got 2147483648'
    ):
        torch.ops.mmadaptor.selective_scan_backward(
            u, None, u, u, A, A, A, None, None, None, False, checkpoints
        )


def test_many_pixels_of_a_readout_are_refused():
    states, C = many(2**34, 1, 1, 1, 1, 1), many(2**34, 1, 1, 1, 1)
    message = r'rows x columns / 8 must be less than 2\^31, got 2147483648'
    with pytest.raises(RuntimeError, match=message):
        cross_readout(states, C)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.mmadaptor.cross_readout_backward(states[..., 0, :, 0], states, C)


def test_large_maps_of_a_convolution_are_refused():
    kernels = torch.ones(1, 1, 3, 3)
    message = 'at most 67108864 rows and columns, got 1 x 67108865'
    with pytest.raises(RuntimeError, match=message):
        dilated_depthwise(one(1, 1, 2**26 + 1, 1), kernels, [1])


def test_many_tiles_of_a_convolution_are_refused():
    y, kernels = many(2**31, 1, 1, 1), torch.ones(1, 1, 3, 3)
    message = r'batch x tiles of a map must be less than 2\^31, got 2147483648'
    with pytest.raises(RuntimeError, match=message):
        dilated_depthwise(y, kernels, [1])
    with pytest.raises(RuntimeError, match=message):
        torch.ops.mmadaptor.dilated_depthwise_backward(y, y, kernels, [1])
