# SPDX-License-Identifier: Apache-2.0
"""Seeded inputs for the tests of the scan, with every form of every argument."""

from dataclasses import dataclass

import torch
from torch import Tensor

NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')


@dataclass(frozen=True)
class Case:
    """Shapes and options of one call; `B` and `C` are the ranks of those tensors."""

    batch: int = 2
    channels: int = 6
    groups: int = 1
    states: int = 1
    length: int = 7
    B: int = 4
    C: int = 4
    skip: bool = True
    gate: bool = False
    bias: bool = True
    softplus: bool = True
    channels_last: bool = False

    def inputs(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Create the tensors by name, all leaves that require gradients."""
        generator = torch.Generator().manual_seed(0)
        wide = torch.float64 if dtype == torch.float64 else torch.float32

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=wide)

        def sequence() -> Tensor:
            if self.channels_last:
                x = normal(self.batch, self.length, self.channels)
                return x.transpose(1, 2)
            return normal(self.batch, self.channels, self.length)

        def coefficients(rank: int) -> Tensor:
            return normal(
                *{
                    2: (self.channels, self.states),
                    3: (self.batch, self.states, self.length),
                    4: (self.batch, self.groups, self.states, self.length),
                }[rank]
            )

        delta, bias = sequence(), normal(self.channels)
        if not self.softplus:  # steps must be positive
            delta, bias = delta.abs() * 0.5, bias.abs() * 0.5
        tensors = dict(
            u=sequence().to(dtype),
            delta=delta.to(dtype),
            A=-normal(self.channels, self.states).abs() - 0.05,
            B=coefficients(self.B).to(dtype),
            C=coefficients(self.C).to(dtype),
            D=normal(self.channels) if self.skip else None,
            z=sequence().to(dtype) if self.gate else None,
            delta_bias=bias if self.bias else None,
        )
        return {
            name: t.requires_grad_() for name, t in tensors.items() if t is not None
        }


CASES = {
    'vmamba': Case(channels=32, groups=2, length=70),
    'mamba': Case(channels=17, states=16, length=65, gate=True, B=3, C=3),
    'fixed B': Case(states=3, B=2, C=3),
    'fixed C': Case(states=3, B=3, C=2, gate=True),
    'fixed both': Case(states=2, B=2, C=2, length=13),
    'groups, no extras': Case(
        channels=40, groups=2, states=3, length=130, skip=False, bias=False
    ),
    'no softplus': Case(states=2, softplus=False),
    'channels last': Case(
        channels=24, groups=2, length=66, states=2, channels_last=True, gate=True
    ),
    'more blocks than one': Case(batch=1, channels=150, states=2, length=9),
    'one step': Case(channels=3, length=1, states=2),
    'one channel': Case(channels=1, length=97, states=5),
    'one of everything': Case(batch=1, channels=1, length=1),
    'whole chunks': Case(channels=16, length=128),
    'empty batch': Case(batch=0, states=2, gate=True),
}
