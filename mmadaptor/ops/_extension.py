# SPDX-License-Identifier: Apache-2.0
"""Load the library of the compiled ops once."""

import pathlib
import re

import torch

OLDEST_TORCH = '2.10'
LIBRARY = pathlib.Path(__file__).resolve().parents[1] / 'libmmadaptor.so'
_HOW_TO_BUILD = (
    'build them with "pip install -e . --no-build-isolation" in '
    "mmadaptor's folder, in the environment that runs them"
)
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
    version = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))
    if version < tuple(map(int, OLDEST_TORCH.split('.'))):
        return (
            f"mmadaptor's compiled ops need torch {OLDEST_TORCH} or later, and this is "
            f'torch {torch.__version__}: pip install --upgrade "torch>={OLDEST_TORCH}"'
        )
    if not LIBRARY.exists():
        return f"mmadaptor's compiled ops are not built: {_HOW_TO_BUILD}."
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        return (
            f"mmadaptor's compiled ops do not load with torch {torch.__version__} on "
            f'this machine: {_HOW_TO_BUILD}. The loader said: {error}'
        )
    missing = [op for op in _OPS if not hasattr(torch.ops.mmadaptor, op)]
    if missing:
        return (
            f"mmadaptor's compiled ops lack {', '.join(missing)}, so they "
            f'are older than the Python files: {_HOW_TO_BUILD}.'
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
