# SPDX-License-Identifier: Apache-2.0
"""Mamba-Adaptor for OpenMMLab.

If mmengine and mmcv are installed, importing it registers the backbones. Hooks and
the runner (:mod:`mmadaptor.engine`) are imported when a config names one.
:mod:`mmadaptor.ops` needs only torch.
"""

import sys
from typing import Any

from .environment import MINIMUM_VERSIONS, has_code, problem_of_version
from .version import __version__

# The doctor is run because these imports may fail.
_DOCTOR = 'mmadaptor.doctor' in getattr(sys, 'orig_argv', sys.argv)
if not _DOCTOR and has_code('mmengine') and has_code('mmcv'):
    for _name in MINIMUM_VERSIONS:
        if _problem := problem_of_version(_name):
            raise ImportError(_problem)
    from . import models  # noqa: F401

__all__ = ['__version__']


def __getattr__(name: str) -> Any:
    """Import the runner when it is used: a backbone does not need it."""
    if name == 'Runner':
        from .engine import Runner

        return Runner
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
