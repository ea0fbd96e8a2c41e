# SPDX-License-Identifier: Apache-2.0
"""Test what the benchmarks measure with."""

import os
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import pytest
import torch

from benchmarks.measuring import exponent, in_child, in_turn, markdown, resident_growth

MIB = 2**20


def test_growth_is_that_of_the_tensor():
    call = partial(torch.ones, 8 * MIB)
    assert in_child(resident_growth, call) == pytest.approx(32 * MIB, abs=MIB)


def test_a_process_that_ends():
    with pytest.raises(BrokenProcessPool):
        in_child(os._exit, 1)


def test_functions_take_turns_within_their_budget():
    order = []

    def clock(name, seconds):
        order.append(name)
        return seconds

    clocks = {'slow': lambda: clock('slow', 5.0), 'fast': lambda: clock('fast', 0.1)}
    assert in_turn(clocks, repeats=5, budget=8.0, least=1) == dict(slow=5.0, fast=0.1)
    assert order == ['slow', 'fast', 'slow', 'fast', 'fast', 'fast', 'fast']


def test_a_function_stays_for_the_least_rounds():
    calls = []
    in_turn({'slow': lambda: calls.append(0) or 9.0}, repeats=5, budget=1.0, least=3)
    assert len(calls) == 3


def test_medians():
    seconds = iter([3.0, 1.0, 2.0])
    assert in_turn({'a': lambda: next(seconds)}, repeats=3) == {'a': 2.0}


@pytest.mark.parametrize('power', [0.5, 1, 2])
def test_exponent_of_a_power(power):
    sizes = [10, 100, 400]
    assert exponent(sizes, [3 * s**power for s in sizes]) == pytest.approx(power)


@pytest.mark.parametrize(
    'sizes, values, said',
    [
        ([1], [1], 'two or more sizes and as many values, got 1 and 1'),
        ([1, 2], [1], 'got 2 and 1'),
        ([2, 2], [1, 3], 'two or more sizes'),
        ([1, 2], [0, 1], 'numbers above 0'),
    ],
)
def test_numbers_without_an_exponent(sizes, values, said):
    with pytest.raises(ValueError, match=said):
        exponent(sizes, values)


def test_a_table():
    assert markdown(['', 'a'], [['b', '1']]) == '|  | a |\n| --- | --- |\n| b | 1 |'
