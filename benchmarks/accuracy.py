# SPDX-License-Identifier: Apache-2.0
"""Compare the scan's errors with a plain loop's: `python -m benchmarks.accuracy`.

Both compute in float32; errors are those from float64, over the root mean square of the
exact result. Prints the tables of docs/speed.md. tests/ops/test_accuracy.py holds the
errors for every input and instruction set.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measuring import commit, markdown, processor
from mmadaptor.ops import selective_scan
from mmadaptor.ops.selective_scan import reference

CHANNELS, STATES = 64, 8
LENGTHS = (256, 1024, 4096)
LONG = (4096, 65536, 1_000_000)  # for last states
EXPONENTS = (1e-4, 1e-5, 1e-6)
FUNCTIONS = (selective_scan, reference.selective_scan)


def error(actual: Tensor, exact: Tensor) -> float:
    """Return the root mean square of the difference, over that of the exact result."""
    return ((actual.double() - exact).norm() / exact.norm()).item()


def gradients(
    function: Callable, inputs: dict[str, Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """Return y and its gradients by u, A and C, with random weights of y."""
    inputs = {k: v.to(dtype).requires_grad_() for k, v in inputs.items()}
    y = function(**inputs)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = [inputs[name] for name in 'uAC']
    return [y.detach(), *torch.autograd.grad(y, wanted, weights)]


def random_inputs(length: int) -> dict[str, Tensor]:
    """Return delta in [0, 0.5], A in [-0.5, 0], and normal u, B and C."""
    generator = torch.Generator().manual_seed(length)
    return dict(
        u=torch.randn(1, CHANNELS, length, generator=generator),
        delta=torch.rand(1, CHANNELS, length, generator=generator) / 2,
        A=-torch.rand(CHANNELS, STATES, generator=generator) / 2,
        B=torch.randn(1, STATES, length, generator=generator),
        C=torch.randn(1, STATES, length, generator=generator),
    )


def gradient_errors() -> str:
    """Return a table of the errors of y and of three gradients against the length."""
    rows = []
    for length in LENGTHS:
        inputs = random_inputs(length)
        exact = gradients(selective_scan, inputs, torch.float64)
        ours, loop = (gradients(f, inputs, torch.float32) for f in FUNCTIONS)
        cells = [
            f'{error(a, e):.1e} / {error(b, e):.1e}'
            for a, b, e in zip(ours, loop, exact, strict=True)
        ]
        rows.append([f'{length:,}', *cells])
    return markdown(['length', 'y', 'gradient of u', 'of A', 'of C'], rows)


@torch.no_grad()
def last_states(
    function: Callable, length: int, exponent: float, dtype: torch.dtype
) -> Tensor:
    """Return the last states of 16 channels whose steps decay by about `exponent`."""
    generator = torch.Generator().manual_seed(length)
    delta = 0.1 * (0.5 + torch.rand(1, 16, length, generator=generator))
    A = -10 * exponent * (0.5 + torch.rand(16, 1, generator=generator))
    one = torch.ones(1, 1, length)
    args = (one.expand_as(delta), delta, A, one, one)
    return function(*(t.to(dtype) for t in args), return_last_state=True)[1].flatten()


def last_state_errors() -> str:
    """Return a table of the mean signed errors of last states."""
    rows = []
    for length in LONG:
        cells = []
        for exponent in EXPONENTS:
            exact = last_states(selective_scan, length, exponent, torch.float64)
            means = [
                ((last_states(f, length, exponent, torch.float32) - exact) / exact)
                .mean()
                .item()
                for f in FUNCTIONS
            ]
            cells.append('{:+.1e} / {:+.1e}'.format(*means))
        rows.append([f'{length:,}', *cells])
    return markdown(['length', *(f'decay {e:.0e} a step' for e in EXPONENTS)], rows)


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print('Errors of the op / of a plain loop:\n')
    print(gradient_errors())
    print('\nMean signed error of the last state, the op / a plain loop:\n')
    print(last_state_errors())
    print(f'\n{processor()}, torch {torch.__version__}, commit {commit()}')


if __name__ == '__main__':
    main()
