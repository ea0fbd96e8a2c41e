# SPDX-License-Identifier: Apache-2.0
"""Reference of Adaptor-T: the gather followed by the readout."""

from collections.abc import Sequence

from torch import Tensor

from mmadaptor.ops.memory_select import reference

from .places import find_places


def memory_readout(
    values: Tensor,
    predicted: Tensor,
    granularities: Sequence[float],
    coefficients: Tensor,
) -> Tensor:
    """Compute the readout; see :func:`mmadaptor.ops.memory_readout`.

    Args:
        values: `(B, H, W, K, D)`.
        predicted: `(B, H, W, K, 3 S P)`.
        granularities: S numbers.
        coefficients: `(B, H, W, K)`.

    Returns:
        `(B, H, W, D)`.
    """
    locations, weights = find_places(predicted, granularities)
    memory = reference.memory_select(values.unsqueeze(-1), locations, weights).squeeze(
        -1
    )
    return (coefficients.unsqueeze(-1) * memory).sum(dim=3)
