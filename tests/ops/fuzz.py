# SPDX-License-Identifier: Apache-2.0
"""Fuzz the public ops on the CPU against their definitions.

A case is one call of one op. Its number determines all of it: shapes, dtypes, memory
layouts, optional arguments and the kind of check. `make fuzz` runs cases under
AddressSanitizer and UBSan, and prints the number of the case that fails.

    PYTHONPATH=.:tests python tests/ops/fuzz.py --seconds 600    # from a random first case
    PYTHONPATH=.:tests python tests/ops/fuzz.py --case 1234      # one case again
"""

import argparse
import collections
import faulthandler
import os
import random
import secrets
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from fuzz_inputs import (
    OPS,
    Op,
    certainly_wrong,
    flag,
    perhaps_wrong,
    relaid,
    wrong_list,
)
from torch import Tensor

from mmadaptor.ops._extension import LIBRARY

# Relative to the largest number, for any shape.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
}
SECONDS_OF_A_CASE = 120
SPECIAL = (float('nan'), float('inf'), -float('inf'), 1e38, -1e38, 1e-40, 2.0**31)
REFUSALS = (ValueError, TypeError, RuntimeError)  # NotImplementedError is one of them
Results = dict[str, Tensor | None]


@dataclass
class Call:
    """A call of an op, with the random numbers for its weights."""

    op: Op
    inputs: dict[str, Any]
    rng: random.Random
    weights: list[Tensor | None] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the arguments that are tensors, by name."""
        return {k: v for k, v in self.inputs.items() if torch.is_tensor(v)}

    def run(self) -> Results:
        """Return the results of the op and its gradients."""
        return self._run(self.op.function, self.inputs)

    def run_exactly(self) -> Results:
        """Return the same from the definition in float64."""
        exact = {
            name: t.detach().resolve_neg().double().requires_grad_(t.requires_grad)
            for name, t in self.tensors().items()
        }
        return self._run(self.op.definition, {**self.inputs, **exact})

    def _run(self, function: Any, inputs: dict[str, Any]) -> Results:
        results = function(**inputs)
        results = results if isinstance(results, tuple) else (results,)
        if self.weights is None:
            self.weights = [relaid(torch.randn_like(r), self.rng) for r in results]
            if len(results) > 1 and flag(self.rng):  # a loss may use only one
                self.weights[self.rng.randrange(len(results))] = None
        found = {f'result {i}': r.detach() for i, r in enumerate(results)}
        leaves = {
            k: v for k, v in inputs.items() if torch.is_tensor(v) and v.requires_grad
        }
        used = [
            (r, w.to(r.dtype))
            for r, w in zip(results, self.weights)
            if w is not None and r.requires_grad
        ]
        if used:
            gradients = torch.autograd.grad(
                [r for r, _ in used],
                list(leaves.values()),
                [w for _, w in used],
                allow_unused=True,
            )
            found |= {f'gradient of {k}': g for k, g in zip(leaves, gradients)}
        return found


def assert_near(call: Call, actual: Results, exact: Results) -> None:
    """Raise if results or gradients differ from those of the definition."""
    tolerance = max(
        TOLERANCE[t.dtype] for t in call.tensors().values() if t.dtype in TOLERANCE
    )
    for name in actual | exact:
        found, expected = actual.get(name), exact.get(name)
        if expected is None or found is None:  # stands for a gradient of zeros
            other = found if expected is None else expected
            assert other is None or not other.any(), f'{name}: None, but is not zero'
            continue
        scale = expected.abs().max().item() if expected.numel() else 1.0
        torch.testing.assert_close(
            found.double(),
            expected,
            rtol=0,
            atol=tolerance * max(scale, 1.0),
            msg=lambda text, name=name: f'{name}: {text}',
        )


def assert_equal_bits(actual: Results, expected: Results) -> None:
    """Raise if a bit differs."""
    for name, value in expected.items():
        same = (
            actual[name] is None if value is None else torch.equal(actual[name], value)
        )
        assert same, f'{name}: not equal bit for bit'


def check_definition(call: Call) -> None:
    """Compare results and gradients with the definition."""
    assert_near(call, call.run(), call.run_exactly())


def check_refusal(call: Call) -> None:
    """Pass a wrong argument; an exception is expected."""
    rng, name = call.rng, call.rng.choice(list(call.inputs))
    value, sure = call.inputs[name], False
    if isinstance(value, list):
        call.inputs[name] = wrong_list(rng, value)
    elif not torch.is_tensor(value):
        call.inputs[name] = 'text'
    elif flag(rng):
        call.inputs[name] = certainly_wrong(rng, value)
        sure = not (call.inputs[name] is None and name in call.op.optional)
    else:
        changed = perhaps_wrong(rng, value.detach())
        call.inputs[name] = changed.requires_grad_(value.requires_grad)
    try:
        actual = call.run()
    except REFUSALS as error:
        assert str(error), 'an exception without a message'
        return
    refused = f'`{name}` is wrong, but was accepted'
    assert not sure, refused
    if torch.is_tensor(call.inputs[name]):
        try:
            exact = call.run_exactly()
        except Exception as error:
            raise AssertionError(refused) from error
        assert_near(call, actual, exact)


def check_special(call: Call) -> None:
    """Pass numbers that are not finite, or extreme; only a crash is an error."""
    for name, t in call.tensors().items():
        changed = t.detach().clone(memory_format=torch.contiguous_format)
        if changed.numel() and flag(call.rng):
            places = torch.randint(changed.numel(), (call.rng.choice((1, 9)),))
            changed.view(-1)[places] = call.rng.choice(SPECIAL)
        call.inputs[name] = relaid(changed, call.rng).requires_grad_(t.requires_grad)
    call.run()


def check_threads(call: Call) -> None:
    """Run a call in several threads at once; all results are equal bit for bit."""
    expected = call.run()
    with ThreadPoolExecutor(3) as pool:
        for actual in pool.map(lambda _: call.run(), range(6)):
            assert_equal_bits(actual, expected)


def check_fork(call: Call) -> None:
    """Run a call in a forked process, with one thread as torch's data loaders have."""
    expected = call.run()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(SECONDS_OF_A_CASE // 2)
            torch.set_num_threads(1)
            assert_equal_bits(call.run(), expected)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, f'the forked process ended with status {status}'


CHECKS = {
    check_definition: 10,
    check_refusal: 5,
    check_special: 3,
    check_threads: 1,
    check_fork: 1,
}


def make_call(op: Op, rng: random.Random) -> Call:
    """Create a valid call."""
    inputs = op.make(rng, rng.choice(op.dtypes))
    for name in op.optional:
        if flag(rng):
            inputs.pop(name, None)
    for name, value in inputs.items():
        if torch.is_tensor(value):
            inputs[name] = relaid(value, rng).requires_grad_(rng.random() < 0.8)
    return Call(op, inputs, rng)


def describe(value: Any) -> str:
    """Describe an argument in a line."""
    if not torch.is_tensor(value) or value.layout != torch.strided:
        return repr(value)[:200]
    return f'{value.dtype} {tuple(value.shape)}, strides {value.stride()}'


def run_case(number: int) -> str:
    """Run a case; return the name of its op.

    Raises:
        AssertionError: The case failed; the message describes it.
    """
    rng = random.Random(number)
    torch.manual_seed(number)
    torch.set_num_threads(rng.choice((1, 1, 2, 3)))
    name = rng.choice(list(OPS))
    check = rng.choices(list(CHECKS), CHECKS.values())[0]
    call = make_call(OPS[name], rng)
    try:
        check(call)
    except Exception as error:
        arguments = '\n'.join(f'  {k}: {describe(v)}' for k, v in call.inputs.items())
        raise AssertionError(
            f'{name}, {check.__name__}, {torch.get_num_threads()} threads\n{arguments}\n'
            f'{type(error).__name__}: {error}'
        ) from error
    return name


def say(text: object) -> None:
    """Print a line at once, before a crash."""
    print(text, flush=True)  # noqa: T201


def work(first: int, seconds: float) -> None:
    """Run cases for some time; print the number of each before it starts."""
    counts, end = collections.Counter(), time.monotonic() + seconds
    while time.monotonic() < end:
        number = first + counts.total()
        say(number)
        faulthandler.dump_traceback_later(SECONDS_OF_A_CASE, exit=True)
        counts[run_case(number)] += 1
    say(f'{counts.total()} cases passed: {dict(sorted(counts.items()))}')


def watch(command: list[str]) -> str | None:
    """Run a worker; return the last case that it started if it failed or crashed."""
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    case = line = ''
    for line in worker.stdout:
        case = line.strip() if line.strip().isdigit() else case
    if worker.wait() == 0:
        say(line.strip())
        return None
    return case


def main() -> None:
    """Run one case, or all that fit in the time, in a process that may crash."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=600)
    parser.add_argument('--first', type=int, help='number of the first case')
    parser.add_argument('--case', type=int, help='number of the only case')
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case is not None:
        say(f'{run_case(args.case)} passed')
        return
    first = secrets.randbelow(10**9) if args.first is None else args.first
    if args.worker:
        work(first, args.seconds)
        return
    say(f'{args.seconds:.0f} s of cases from {first} on, of {LIBRARY}')
    arguments = ['--worker', f'--first={first}', f'--seconds={args.seconds}']
    case = watch([sys.executable, __file__, *arguments])
    if case is not None:
        sys.exit(f'Case {case} failed. Run it again: make fuzz CASE={case}')


if __name__ == '__main__':
    main()
