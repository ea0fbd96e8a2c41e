# SPDX-License-Identifier: Apache-2.0
"""Time a Mamba language model of transformers with its own scan and with the op.

Usage: python -m benchmarks.mamba_language_model [--threads 1 2] [--rounds 7]

Both are timed alternately on a CPU, so that other load on the machine affects both. The
medians over the rounds are printed.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from mmadaptor.arguments import positive
from mmadaptor.integrations.mamba import use_scan

VOCABULARY = 1000


def forward(model: nn.Module, tokens: Tensor) -> None:
    """Compute the logits without gradients."""
    with torch.inference_mode():
        model.eval()(tokens, use_cache=False)


def training_step(model: nn.Module, tokens: Tensor) -> None:
    """Compute the loss and its gradients."""
    model.zero_grad()
    model.train()(tokens, labels=tokens, use_cache=False).loss.backward()


def compare(call: Callable, model: nn.Module, tokens: Tensor, rounds: int) -> list:
    """Return the median seconds of transformers' scan and of the op.

    Args:
        call: What is timed, given the model and the tokens.
        model: The model.
        tokens: `(B, L)`.
        rounds: How often each is timed, after one call that is not.
    """
    times = [[], []]
    for _ in range(rounds + 1):
        for scan, measured in zip(
            (contextlib.nullcontext, lambda: use_scan(model)), times, strict=True
        ):
            with scan():
                start = time.perf_counter()
                call(model, tokens)
                measured.append(time.perf_counter() - start)
    return [median(measured[1:]) for measured in times]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    counts = dict(type=positive, metavar='N')
    parser.add_argument('--threads', nargs='+', default=[1, 2], **counts)
    for name, default in dict(rounds=7, layers=4, hidden=256, length=512).items():
        parser.add_argument(f'--{name}', default=default, **counts)
    args = parser.parse_args()
    # Not at the head: the other benchmarks run without transformers.
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=args.hidden, num_hidden_layers=args.layers
    )
    model = MambaForCausalLM(config)
    tokens = torch.randint(VOCABULARY, (1, args.length))
    print('| | threads | transformers | mmadaptor | speed-up |')
    print('|---|---|---|---|---|')
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, call in (
            ('forward', forward),
            ('forward and backward', training_step),
        ):
            theirs, ours = compare(call, model, tokens, args.rounds)
            print(
                f'| {name} | {threads} | {theirs * 1e3:.0f} ms | {ours * 1e3:.0f} ms '
                f'| {theirs / ours:.1f}x |',
                flush=True,
            )


if __name__ == '__main__':
    main()
