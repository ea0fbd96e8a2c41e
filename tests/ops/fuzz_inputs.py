# SPDX-License-Identifier: Apache-2.0
"""Random arguments for the public ops, and ways to make them wrong."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import test_cross_selective_scan
import test_dilated_depthwise
import test_memory_readout
import test_memory_select
import torch
from cases import Case
from torch import Tensor

from mmadaptor import ops
from mmadaptor.ops.cross_selective_scan import reference as cross
from mmadaptor.ops.dilated_depthwise import reference as depthwise
from mmadaptor.ops.memory_readout import reference as readout
from mmadaptor.ops.memory_select import reference as select
from mmadaptor.ops.selective_scan import reference as scan

WIDE = (torch.float32, torch.float64)
ALL = (*WIDE, torch.float16, torch.bfloat16)
Inputs = dict[str, Any]

# Around the widths of vectors and the lengths of chunks and blocks.
CHANNELS = (1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 32, 33, 40, 64, 65)
LENGTHS = (1, 2, 3, 7, 16, 31, 63, 64, 65, 130)
SIDES = (1, 2, 3, 4, 5, 8, 9, 13)
BATCHES = (0, 1, 1, 2, 3)
STATES = (1, 1, 2, 3, 4, 5, 16)


@dataclass(frozen=True)
class Op:
    """A public op.

    Args:
        function: The compiled op.
        definition: Its definition, with the same arguments.
        make: Creates its arguments from a source of random numbers and a dtype.
        dtypes: Dtypes that it supports.
        optional: Names of the arguments that may be left out.
    """

    function: Callable
    definition: Callable
    make: Callable[[random.Random, torch.dtype], Inputs]
    dtypes: tuple[torch.dtype, ...]
    optional: tuple[str, ...] = ()


def divisor(rng: random.Random, number: int, most: int) -> int:
    """Choose a divisor of a number."""
    return rng.choice([d for d in range(1, most + 1) if number % d == 0])


def flag(rng: random.Random) -> bool:
    """Choose True or False."""
    return rng.random() < 0.5


def selective_scan(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `selective_scan`."""
    ranks = [rng.choice((2, 3, 4)) for _ in 'BC']
    channels = rng.choice(CHANNELS)
    case = Case(
        batch=rng.choice(BATCHES),
        channels=channels,
        groups=1 if 3 in ranks else divisor(rng, channels, 8),
        states=rng.choice(STATES),
        length=rng.choice(LENGTHS),
        B=ranks[0],
        C=ranks[1],
        gate=True,
        softplus=flag(rng),
        channels_last=flag(rng),
    )
    options = dict(delta_softplus=case.softplus, return_last_state=flag(rng))
    return {**case.inputs(dtype), **options}


def selective_scan_states(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `selective_scan_states`."""
    inputs = selective_scan(rng, dtype)
    names = ('u', 'delta', 'A', 'B', 'delta_bias', 'delta_softplus')
    return {name: inputs[name] for name in names}


def cross_selective_scan(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `cross_selective_scan`."""
    sizes = (rng.choice(s) for s in (BATCHES, SIDES, SIDES, CHANNELS, STATES))
    inputs = test_cross_selective_scan.make(*sizes, dtype)
    return {**inputs, 'delta_softplus': True, 'return_states': flag(rng)}


def cross_selective_scan_states(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `cross_selective_scan_states`."""
    inputs = cross_selective_scan(rng, dtype)
    names = ('x', 'delta', 'A', 'B', 'delta_bias', 'delta_softplus')
    return {name: inputs[name] for name in names}


def cross_scan_definition(return_states: bool, **inputs: Any) -> Any:
    """Compute the scan, and the states if asked for, by the definition."""
    if return_states:
        return test_cross_selective_scan.both(**inputs)
    return cross.cross_selective_scan(**inputs)


def cross_readout(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `cross_readout`."""
    inputs = cross_selective_scan(rng, dtype)
    directed, states = inputs['delta'].shape, inputs['A'].shape[-1:]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return dict(states=torch.randn(directed + states, dtype=wide), C=inputs['C'])


def memory_select(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `memory_select`."""
    channels = rng.choice(CHANNELS)
    return test_memory_select.make(
        *(rng.choice(s) for s in (BATCHES, SIDES, SIDES, (1, 2, 4))),
        channels,
        rng.choice(STATES[:4]),
        divisor(rng, channels, 4),
        rng.choice((1, 2, 3, 4, 9)),
        dtype,
    )


def memory_readout(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `memory_readout`."""
    channels = rng.choice(CHANNELS)
    inputs = test_memory_readout.make(
        *(rng.choice(s) for s in (BATCHES, SIDES, SIDES, (1, 2, 4))),
        channels,
        divisor(rng, channels, 4),
        rng.choice((1, 2, 3, 4, 9)),
        dtype,
    )
    # Exact in float32 and never on a pixel, where the gradient has a step.
    inputs['predicted'] = (inputs['predicted'].detach() * 8).floor() / 8 + 1 / 16
    groups = len(inputs['granularities'])
    return {**inputs, 'granularities': [2.0**s for s in range(groups)]}


def dilated_depthwise(rng: random.Random, dtype: torch.dtype) -> Inputs:
    """Create the arguments of `dilated_depthwise`."""
    size = [rng.choice(s) for s in (BATCHES, (*SIDES, 33), (*SIDES, 70), CHANNELS)]
    dilations = [
        rng.choice((1, 2, 3, 4, 9, 1000)) for _ in range(rng.choice((1, 3, 16)))
    ]
    y, kernels = test_dilated_depthwise.make(size, dilations, dtype)
    return dict(y=y, kernels=kernels, dilations=dilations)


SCAN = ('D', 'z', 'delta_bias')
OPS = {
    'selective_scan': Op(
        ops.selective_scan, scan.selective_scan, selective_scan, ALL, SCAN
    ),
    'selective_scan_states': Op(
        ops.selective_scan_states,
        scan.selective_scan_states,
        selective_scan_states,
        ALL,
        SCAN,
    ),
    'cross_selective_scan': Op(
        ops.cross_selective_scan, cross_scan_definition, cross_selective_scan, ALL, SCAN
    ),
    'cross_selective_scan_states': Op(
        ops.cross_selective_scan_states,
        cross.cross_selective_scan_states,
        cross_selective_scan_states,
        ALL,
        SCAN,
    ),
    'cross_readout': Op(ops.cross_readout, cross.cross_readout, cross_readout, ALL),
    'memory_select': Op(ops.memory_select, select.memory_select, memory_select, WIDE),
    'memory_readout': Op(
        ops.memory_readout, readout.memory_readout, memory_readout, WIDE
    ),
    'dilated_depthwise': Op(
        ops.dilated_depthwise, depthwise.dilated_depthwise, dilated_depthwise, ALL
    ),
}


def relaid(t: Tensor, rng: random.Random) -> Tensor:
    """Copy a tensor into a random memory layout; only expanding changes its values."""
    t = t.detach()
    layout = rng.choice(('plain', 'strided', 'permuted', 'part', 'expanded', 'negated'))
    if t.dim() == 0 or layout == 'plain':
        return t.clone()
    if layout == 'strided':
        return t.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == 'permuted':
        order = rng.sample(range(t.dim()), t.dim())
        inverse = sorted(range(t.dim()), key=order.__getitem__)
        return t.permute(order).contiguous().permute(inverse)
    if layout == 'part':  # of a larger tensor of NaN
        whole = t.new_full([n + 2 for n in t.shape], float('nan'))
        whole[tuple(slice(1, n + 1) for n in t.shape)] = t
        return whole[tuple(slice(1, n + 1) for n in t.shape)]
    if layout == 'expanded':
        dim = rng.randrange(t.dim())
        return t.narrow(dim, 0, min(t.shape[dim], 1)).clone().expand_as(t)
    return torch._neg_view(-t)


def certainly_wrong(rng: random.Random, t: Tensor) -> Any:
    """Return something that no op takes in place of a tensor."""
    return rng.choice(
        (
            None,
            'text',
            1.0,
            [t],
            t.to(torch.int64),
            t.to(torch.bool),
            t.to(torch.complex64),
            t.to('meta'),
            t.to_sparse(),
        )
    )


def perhaps_wrong(rng: random.Random, t: Tensor) -> Tensor:
    """Return a tensor of another shape or dtype, which an op may support."""
    dim = rng.randrange(t.dim())
    change = rng.choice(
        ('shorter', 'longer', 'empty', 'rank', 'flat', 'order', 'dtype')
    )
    if change == 'longer':
        return torch.cat([t, t.narrow(dim, 0, min(t.shape[dim], 1))], dim)
    if change in ('shorter', 'empty'):
        size = max(t.shape[dim] - 1, 0) if change == 'shorter' else 0
        return t.narrow(dim, 0, size)
    if change == 'rank':
        return t.unsqueeze(dim) if flag(rng) or not t.shape[dim] else t.select(dim, 0)
    if change == 'flat':
        return t.flatten()
    if change == 'order':
        return t.transpose(dim, rng.randrange(t.dim()))
    return t.to(rng.choice(ALL))


def wrong_list(rng: random.Random, values: list) -> Any:
    """Return a list of numbers that is wrong, or has extreme values."""
    value = rng.choice((0, -1, 2**31, 2**62, -(2**63), 2**63, 1e300, float('nan')))
    return rng.choice(
        ([], None, 'text', values * 17, values[1:], [value] * len(values), [*values, 1])
    )
