# SPDX-License-Identifier: Apache-2.0
"""Test that calls of the ops, forward and backward, leave no memory behind."""

import ctypes
import gc
import pathlib
import resource

import pytest
import test_cross_selective_scan
import test_dilated_depthwise
import test_memory_readout
import test_memory_select
import torch
from cases import Case
from fuzz_inputs import OPS

CALLS = 10_000
LEAK = 1024  # bytes a call, which must be found


def resident():
    """Return the resident memory of this process in bytes, without freed memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
    return int(pages) * resource.getpagesize()


def growth(step):
    """Return by how many bytes a call the resident memory grows."""
    # Fills the holes that earlier tests left in the heap: a leak would hide there.
    held = [bytearray(LEAK) for _ in range(4 * CALLS)]
    for _ in range(CALLS // 10):
        step()
    before = resident()
    for _ in range(CALLS):
        step()
    after = resident()
    del held
    return (after - before) / CALLS


def small_inputs(name):
    if name.startswith('selective_scan'):
        return Case(channels=4, length=5, gate=True).inputs(torch.float32)
    if name.startswith('cross'):
        return test_cross_selective_scan.make(1, 2, 3, 4, 1, torch.float32)
    if name == 'memory_select':
        return test_memory_select.make(1, 2, 3, 1, 4, 1, 2, 2, torch.float32)
    if name == 'memory_readout':
        return test_memory_readout.make(1, 2, 3, 1, 4, 2, 2, torch.float32)
    y, kernels = test_dilated_depthwise.make((1, 2, 3, 4), (1, 2), torch.float32)
    return dict(y=y, kernels=kernels, dilations=(1, 2))


def make_step(name):
    """Return a function that calls an op and computes all gradients."""
    function, inputs = OPS[name].function, small_inputs(name)
    if name.endswith('_states'):
        names = ('u', 'x', 'delta', 'A', 'B', 'delta_bias')
        inputs = {k: v for k, v in inputs.items() if k in names}
    if name == 'cross_readout':
        inputs = dict(
            states=torch.ones(1, 2, 3, 4, 4, 1, requires_grad=True), C=inputs['C']
        )
    leaves = [t for t in inputs.values() if torch.is_tensor(t)]
    weight = torch.ones_like(function(**inputs))

    def step():
        torch.autograd.grad(function(**inputs), leaves, weight)

    return step


@pytest.mark.parametrize('name', OPS)
def test_memory_is_flat(name):
    assert growth(make_step(name)) < LEAK / 4


def test_a_leak_is_found():
    step, leaked = make_step('dilated_depthwise'), []

    def leaking_step():
        step()
        leaked.append(bytearray(LEAK))

    assert growth(leaking_step) > LEAK / 2
