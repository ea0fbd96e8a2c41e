# SPDX-License-Identifier: Apache-2.0
"""An op as a module."""

from collections.abc import Callable
from typing import Any

from torch import nn


class Op(nn.Module):
    """Calls an op, without parameters of its own.

    As a submodule, an op can have forward hooks, which see its arguments and its
    result, and can be replaced.

    Args:
        function: The op.
    """

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the op."""
        return self.function(*args, **kwargs)

    def extra_repr(self) -> str:
        """Return the name of the op."""
        return self.function.__name__
