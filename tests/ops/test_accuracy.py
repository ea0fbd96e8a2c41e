# SPDX-License-Identifier: Apache-2.0
"""Compare float32 errors of the scans with those of a plain float32 loop.

Errors are relative to the same op in float64, whose equality with the definition is
tested elsewhere to 1e-13.
"""

import functools

import numpy as np
import pytest
import torch
from torch import Tensor

from mmadaptor.ops import cross_selective_scan, selective_scan
from mmadaptor.ops.cross_selective_scan import reference
from mmadaptor.ops.selective_scan import reference as definition

# Results are float32: rounding a number once errs by up to this, whatever computed it.
ROUNDING = 2.0**-24
CHANNELS, STATES = 64, 8
STEPS = {  # channels of each kind: largest step, largest -A
    'issue': (0.5, 0.5),
    'slow': (1e-2, 1e-2),
    'mixed': (0.5, 16.0),
}


def loop(*args: Tensor, softplus: bool) -> tuple[Tensor, Tensor]:
    """Return y and the last state of the definition, a plain loop over time."""
    return definition.selective_scan(
        *args, delta_softplus=softplus, return_last_state=True
    )


def scan(*args: Tensor, softplus: bool) -> tuple[Tensor, Tensor]:
    """Return y and the last state of the op."""
    return selective_scan(*args, delta_softplus=softplus, return_last_state=True)


def with_gradients(function, inputs: dict, softplus: bool) -> dict[str, Tensor]:
    inputs = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    y, last = function(*inputs.values(), softplus=softplus)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator).to(t.dtype) for t in (y, last)]
    grads = torch.autograd.grad((y, last), list(inputs.values()), weights)
    named = {f"{name}'": g for name, g in zip(inputs, grads)}
    return dict(y=y.detach(), last=last.detach(), **named)


def make_inputs(length: int, kinds: tuple[str, ...]) -> dict[str, Tensor]:
    """Return inputs whose channels are those of each kind, a group of B and C each."""
    generator = torch.Generator().manual_seed(length)
    normal = functools.partial(torch.randn, generator=generator)
    uniform = functools.partial(torch.rand, generator=generator)
    groups, channels = len(kinds), len(kinds) * CHANNELS
    if kinds == ('softplus',):
        delta, bias = normal(1, channels, length), normal(channels)
        A = -normal(channels, STATES).abs()
    else:
        most, rate = (
            torch.tensor([STEPS[k][i] for k in kinds]).repeat_interleave(CHANNELS)
            for i in (0, 1)
        )
        delta = uniform(1, channels, length) * most[:, None]
        bias = torch.zeros(channels)
        A = -uniform(channels, STATES) * rate[:, None]
        if 'mixed' in kinds:  # every other channel of a vector is slow
            A[kinds.index('mixed') * CHANNELS :: 2] *= 1e-3
    return dict(
        u=normal(1, channels, length),
        delta=delta,
        A=A,
        B=normal(1, groups, STATES, length),
        C=normal(1, groups, STATES, length),
        D=normal(channels),
        z=normal(1, channels, length),
        delta_bias=bias,
    )


def channels_of(name: str, tensor: Tensor, group: int) -> Tensor:
    """Return a group's part of an output or gradient, `(CHANNELS or 1, anything)`.

    One row for the gradients of B and C, which are sums over channels, and for those of
    D and the bias: one number a channel, which may be close to 0.
    """
    if name in ("B'", "C'"):
        return tensor[:, group].flatten(1)
    if name in ('y', 'last', "u'", "delta'", "z'"):
        tensor = tensor[0]
    rows = 1 if name in ("D'", "delta_bias'") else CHANNELS
    return tensor.narrow(0, group * CHANNELS, CHANNELS).reshape(rows, -1)


def squares(actual: Tensor, exact: Tensor) -> Tensor:
    """Return the squared relative error of each row, or of each number of one row."""
    difference = (actual.double() - exact).square()
    if len(exact) == 1:
        return difference[0] * exact.numel() / exact.square().sum()
    return difference.sum(1) / exact.square().sum(1)


def chance(squares: Tensor) -> float:
    """Return the factor by which chance may separate two equally good results.

    The root mean square of n independent errors varies by 1 / sqrt(2 n) of itself, so
    the ratio of two varies by 1 / sqrt(n). Three times that, with the number of errors
    that count, sum(e^2)^2 / sum(e^4), and no more than one a channel.
    """
    count = (squares.sum().square() / squares.square().sum()).item()
    return 1 + 3 / min(count, CHANNELS) ** 0.5


def compare(ours: Tensor, plain: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """Return the errors of the op and of the loop, and the limit of the former."""
    op, loop = squares(ours, exact), squares(plain, exact)
    errors = [s.mean().sqrt().item() for s in (op, loop)]
    return (*errors, max(chance(loop) * errors[1], ROUNDING))


@functools.cache
def errors(length: int, kinds: tuple[str, ...]) -> dict[tuple[str, str], tuple]:
    """Return the result of `compare` by kind and tensor."""
    inputs = make_inputs(length, kinds)
    softplus = kinds == ('softplus',)
    exact = with_gradients(scan, {k: v.double() for k, v in inputs.items()}, softplus)
    ours, plain = (with_gradients(f, inputs, softplus) for f in (scan, loop))
    return {
        (kind, name): compare(
            *(channels_of(name, t[name], i) for t in (ours, plain, exact))
        )
        for i, kind in enumerate(kinds)
        for name in exact
    }


@pytest.mark.parametrize('length', [256, 1024, 4096])
@pytest.mark.parametrize('kinds', [tuple(STEPS), ('softplus',)], ids='-'.join)
def test_errors_are_at_most_those_of_a_plain_loop(kinds, length):
    above = {k: e for k, e in errors(length, kinds).items() if e[0] > e[2]}
    assert not above, above


@pytest.mark.parametrize('exponent', [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize('length', [4096, 65536, 1_000_000])
def test_the_last_state_of_slow_decays(length, exponent):
    """Its error, and its mean signed error, are at most those of a plain loop."""
    channels = 64 if length < 1_000_000 else 16
    generator = torch.Generator().manual_seed(length)
    delta = 0.1 * (0.5 + torch.rand(1, channels, length, generator=generator))
    A = -10 * exponent * (0.5 + torch.rand(channels, 1, generator=generator))
    one = torch.ones(1, channels, length)
    coefficient = torch.ones(1, 1, length)

    def last(dtype):
        args = (t.to(dtype) for t in (one, delta, A, coefficient, coefficient))
        return selective_scan(*args, return_last_state=True)[1].flatten()

    exact = last(torch.float64)
    ours = last(torch.float32)
    decay = torch.exp(delta[0] * A).T.contiguous().numpy()
    drive = delta[0].T.contiguous().numpy()
    h = np.zeros(channels, np.float32)
    for factor, term in zip(decay, drive):
        h = factor * h + term
    relative, plain = (
        (t.double() - exact) / exact for t in (ours, torch.from_numpy(h))
    )
    size = plain.square().mean().sqrt().item()
    assert relative.square().mean().sqrt() <= max(
        chance(plain.square()) * size, ROUNDING
    )
    # A mean of independent errors has a standard deviation of size / sqrt(n).
    limit = max(plain.mean().abs().item(), 3 * size / channels**0.5)
    assert relative.mean().abs() <= max(limit, ROUNDING)


@pytest.mark.parametrize('softplus', [False, True])
@pytest.mark.parametrize('beside', ['nothing', 'slow channels'])
def test_a_channel_does_not_depend_on_its_neighbors(beside, softplus):
    """A slow channel has the same bits beside fast ones and an infinite one."""
    slow = make_inputs(200, ('slow',))
    fast = {k: v.clone() for k, v in slow.items()}
    fast['A'][1:] *= 3e4
    fast['u'][:, 5, 70] = float('inf')
    if beside == 'nothing':
        slow = {
            k: v[:1] if k in ('A', 'D', 'delta_bias') else v[:, :1]
            for k, v in slow.items()
        }

    def results(inputs):
        inputs = {k: v.clone().requires_grad_() for k, v in inputs.items()}
        y, last = scan(*inputs.values(), softplus=softplus)
        grad = torch.autograd.grad(y, inputs['u'], torch.ones_like(y))[0]
        return y.detach(), last.detach(), grad

    together = results(fast)
    assert not together[0][0, 5].isfinite().all()
    for a, b in zip(together, results(slow)):
        assert torch.equal(a[:, :1], b[:, :1])


def test_the_scan_of_a_map():
    generator = torch.Generator().manual_seed(0)
    side, channels, states = 32, 16, 4
    normal = functools.partial(torch.randn, generator=generator)
    inputs = dict(
        x=normal(1, side, side, channels),
        delta=normal(1, side, side, 4, channels) - 2,
        A=-normal(4, channels, states).abs(),
        B=normal(1, side, side, 4, states),
        C=normal(1, side, side, 4, states),
        D=normal(4, channels),
        delta_bias=normal(4, channels),
    )

    def results(dtype, function):
        args = {k: v.to(dtype).requires_grad_() for k, v in inputs.items()}
        y = function(**args, delta_softplus=True)
        weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        return y.detach(), *torch.autograd.grad(
            y, list(args.values()), weight.to(dtype)
        )

    exact = results(torch.float64, cross_selective_scan)
    ours = results(torch.float32, cross_selective_scan)
    plain = results(torch.float32, reference.cross_selective_scan)
    for name, *tensors in zip(('y', *inputs), ours, plain, exact):
        op, _, limit = compare(*(t.reshape(1, -1) for t in tensors))
        assert op <= limit, name
