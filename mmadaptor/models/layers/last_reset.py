# SPDX-License-Identifier: Apache-2.0
"""Initialization of a module after its layers, for models from the meta device."""

from collections.abc import Callable

from torch import nn


class LastReset(nn.Module):
    """Initializes its parent again, as the last of the parent's submodules.

    A model from the meta device gets its values by a call of `reset_parameters` of each
    of `model.modules()`. This visits a parent before its layers, whose own method would
    overwrite what the parent gave them.

    Args:
        reset: The `reset_parameters` of the parent.
    """

    def __init__(self, reset: Callable[[], None]) -> None:
        super().__init__()
        self._reset = reset

    def reset_parameters(self) -> None:
        """Initialize the parent."""
        self._reset()
