# SPDX-License-Identifier: Apache-2.0
"""Run a few cases of the fuzzer, and test that it finds planted errors."""

import dataclasses
import os
import random
import subprocess
import sys

import fuzz
import pytest
import torch
from fuzz_inputs import OPS, relaid

from mmadaptor import ops


def run_cases(check, count=40):
    """Run cases of one check; return the names of their ops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, 'CHECKS', {check: 1})
        return {fuzz.run_case(number) for number in range(count)}


IN_THIS_PROCESS = [check for check in fuzz.CHECKS if check is not fuzz.check_fork]


@pytest.mark.parametrize('check', IN_THIS_PROCESS, ids=lambda check: check.__name__)
def test_a_few_cases(check):
    assert run_cases(check) == set(OPS) == set(ops.__all__)


def test_a_few_cases_in_forks():
    """In a new process, as other tests may have left one in which torch allows no forks.

    After a FakeTensorMode, as that of an export, torch takes a GPU to be there; if the
    first backward pass follows, it starts a thread for it, and refuses backward passes in
    forks from then on.
    """
    code = 'import fuzz, test_fuzz; print(*test_fuzz.run_cases(fuzz.check_fork))'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == set(OPS)


@pytest.mark.parametrize('name', OPS)
def test_none_is_no_tensor(name):
    """torch passes None on as an undefined tensor, also where none is expected."""
    inputs = OPS[name].make(random.Random(0), torch.float32)
    for argument, value in inputs.items():
        if torch.is_tensor(value) and argument not in OPS[name].optional:
            with pytest.raises((ValueError, RuntimeError)):
                OPS[name].function(**{**inputs, argument: None})


def plant(monkeypatch, function):
    op = dataclasses.replace(OPS['dilated_depthwise'], function=function)
    monkeypatch.setattr(fuzz, 'OPS', {'dilated_depthwise': op})


def test_a_case_follows_from_its_number(monkeypatch):
    calls = []
    monkeypatch.setattr(fuzz, 'CHECKS', {calls.append: 1})
    fuzz.run_case(3)
    fuzz.run_case(3)
    first, second = calls
    assert first.op is second.op and first.inputs.keys() == second.inputs.keys()
    for name, value in first.inputs.items():
        other = second.inputs[name]
        assert fuzz.describe(value) == fuzz.describe(other)
        assert not torch.is_tensor(value) or torch.equal(value, other)


def test_a_wrong_result_is_found(monkeypatch):
    plant(monkeypatch, lambda y, **others: 1.2 * ops.dilated_depthwise(y, **others))
    monkeypatch.setattr(fuzz, 'CHECKS', {fuzz.check_definition: 1})
    case = r'(?s)dilated_depthwise, check_definition, \d threads\n  y: torch.*result 0'
    with pytest.raises(AssertionError, match=case):
        for number in range(20):
            fuzz.run_case(number)


def test_a_wrong_gradient_is_found(monkeypatch):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    plant(
        monkeypatch,
        lambda y, **others: ops.dilated_depthwise(Double.apply(y), **others),
    )
    monkeypatch.setattr(fuzz, 'CHECKS', {fuzz.check_definition: 1})
    with pytest.raises(AssertionError, match='gradient of y'):
        for number in range(20):
            fuzz.run_case(number)


def test_a_wrong_argument_that_is_accepted_is_found(monkeypatch):
    plant(monkeypatch, lambda y, kernels, dilations: torch.zeros(1))
    monkeypatch.setattr(fuzz, 'CHECKS', {fuzz.check_refusal: 1})
    with pytest.raises(AssertionError, match='is wrong, but was accepted'):
        for number in range(40):
            fuzz.run_case(number)


def test_the_case_of_a_crash_is_named():
    crash = 'import os; print(41, flush=True); print(42, flush=True); os.abort()'
    assert fuzz.watch([sys.executable, '-c', crash]) == '42'
    assert fuzz.watch([sys.executable, '-c', 'print("1 case passed")']) is None


def test_every_layout_has_the_same_numbers():
    class Chosen:
        def __init__(self, layout):
            self.layout = layout

        def choice(self, layouts):
            return layouts[self.layout]

        def sample(self, numbers, count):
            return list(reversed(numbers))

    t = torch.randn(2, 3, 4)
    for layout in (0, 1, 2, 3, 5):
        assert torch.equal(relaid(t, Chosen(layout)), t)
