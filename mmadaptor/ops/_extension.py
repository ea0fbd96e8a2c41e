# SPDX-License-Identifier: Apache-2.0
"""Load the library of the compiled ops once."""

import pathlib

import torch

from mmadaptor.environment import MINIMUM_VERSIONS, install, numbers

OLDEST_TORCH = MINIMUM_VERSIONS['torch']
LIBRARY = pathlib.Path(__file__).resolve().parents[1] / 'libmmadaptor.so'
_OPS = (
    'selective_scan',
    'selective_scan_states',
    'cross_selective_scan',
    'cross_selective_scan_states',
    'cross_readout',
    'memory_select',
    'memory_readout',
    'dilated_depthwise',
)


def _load() -> str | None:
    """Load the library and return its problem; None if it has none."""
    again = install('mmadaptor', '--force-reinstall', '--no-deps')
    if numbers(torch.__version__) < numbers(OLDEST_TORCH):
        return (
            f"mmadaptor's compiled ops need torch {OLDEST_TORCH} or later, and this is "
            f'torch {torch.__version__}: {install("torch", "--upgrade")}'
        )
    if not LIBRARY.exists():
        return f"mmadaptor's compiled ops are not built ({LIBRARY} is missing): {again}"
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        return (
            f"mmadaptor's compiled ops do not load with torch {torch.__version__} on "
            f'this machine ({error.__cause__ or error}): {again}'
        )
    missing = [op for op in _OPS if not hasattr(torch.ops.mmadaptor, op)]
    if missing:
        return (
            f"mmadaptor's compiled ops lack {', '.join(missing)}, so they are older "
            f'than the Python files: {again}'
        )
    return None


PROBLEM = _load()
"""Why the ops cannot be used, in one sentence; None if they can."""


HAS_CUDA = PROBLEM is None and torch._C._dispatch_has_kernel_for_dispatch_key(
    'mmadaptor::memory_select', 'CUDA'
)
"""Whether the library has kernels for CUDA."""


def require() -> None:
    """Raise if the compiled ops cannot be used.

    Raises:
        RuntimeError: Says why and what to do.
    """
    if PROBLEM is not None:
        raise RuntimeError(PROBLEM)
