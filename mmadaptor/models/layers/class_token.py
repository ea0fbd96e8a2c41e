# SPDX-License-Identifier: Apache-2.0
"""The class token in the middle of the sequence."""

import torch
from torch import Tensor


def insert_class_token(patches: Tensor, class_token: Tensor) -> Tensor:
    """Insert the class token between the two halves of the patches.

    Args:
        patches: `(B, M, C)`.
        class_token: `(B, 1, C)`.

    Returns:
        `(B, M + 1, C)`, the class token at index `M // 2`.

    Source:
        Vision Mamba (arXiv 2401.09417), middle class token.
    """
    middle = patches.shape[1] // 2
    return torch.cat([patches[:, :middle], class_token, patches[:, middle:]], dim=1)


def split_class_token(sequence: Tensor) -> tuple[Tensor, Tensor]:
    """Undo :func:`insert_class_token`.

    Args:
        sequence: `(B, M + 1, ...)`.

    Returns:
        The patches, `(B, M, ...)`, and the class token, `(B, 1, ...)`.
    """
    middle = (sequence.shape[1] - 1) // 2
    before, token, after = sequence.tensor_split((middle, middle + 1), dim=1)
    return torch.cat([before, after], dim=1), token
