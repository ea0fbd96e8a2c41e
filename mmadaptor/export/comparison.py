# SPDX-License-Identifier: Apache-2.0
"""The difference between an exported file and the model it comes from."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def differences(
    run: Callable[[Tensor], Sequence[Tensor]],
    names: Sequence[str],
    model: nn.Module,
    images: Sequence[Tensor],
) -> dict[str, float]:
    """Compare what a file and its model return.

    Args:
        run: Runs the file on a batch of images.
        names: Names of its outputs.
        model: What it was exported from.
        images: Batches of images `(B, C, H, W)`.

    Returns:
        By name of the output the largest difference over the largest absolute value; of
        classes the share of those that differ. NaN where one of both is NaN.
    """
    worst = dict.fromkeys(names, 0.0)
    for batch in images:
        with torch.no_grad():
            expected = model.eval()(batch)
        expected = (expected,) if isinstance(expected, Tensor) else expected
        for name, ours, theirs in zip(names, expected, run(batch), strict=True):
            found = [worst[name], _difference(ours, theirs)]
            # Not Python's `max`, which may pass over NaN.
            worst[name] = torch.tensor(found, dtype=torch.float64).max().item()
    return worst


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if not ours.is_floating_point():
        return (ours != theirs).float().mean().item()
    scale = ours.abs().max().clamp(min=1e-12)
    return ((ours - theirs).abs().max() / scale).item()
