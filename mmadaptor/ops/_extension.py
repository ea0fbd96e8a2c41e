# SPDX-License-Identifier: Apache-2.0
"""Load the compiled ops, `mmadaptor._ext`, once."""

import importlib

import torch

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
    """Import the library and return its problem; None if it has none."""
    try:
        importlib.import_module('mmadaptor._ext')
    except ModuleNotFoundError:
        return f"mmadaptor's compiled ops are not built: {_HOW_TO_BUILD}."
    except ImportError as error:
        return (
            f"mmadaptor's compiled ops do not load with torch "
            f'{torch.__version__}, because they were built for another version: '
            f'{_HOW_TO_BUILD}. The loader said: {error}'
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


def require() -> None:
    """Raise if the compiled ops cannot be used.

    Raises:
        RuntimeError: Says why and what to do.
    """
    if PROBLEM is not None:
        raise RuntimeError(PROBLEM)
