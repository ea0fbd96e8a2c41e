# SPDX-License-Identifier: Apache-2.0
"""Mamba-Adaptor: vision backbones with a compiled selective scan.

:mod:`mmadaptor.ops` and :mod:`mmadaptor.models` need torch alone. Importing mmadaptor
registers the models in OpenMMLab, timm and transformers, as far as these are installed
(:mod:`mmadaptor.integrations`). Hooks and the runner (:mod:`mmadaptor.engine`) are
imported when a config names one.
"""

import sys
from typing import Any

from .environment import MINIMUM_VERSIONS, has_code, problem_of_version
from .version import __version__

# The doctor is run because these imports may fail.
if 'mmadaptor.doctor' not in getattr(sys, 'orig_argv', sys.argv):
    from .integrations import register_with_installed

    if has_code('mmengine') and has_code('mmcv'):
        for _name in MINIMUM_VERSIONS:
            if _problem := problem_of_version(_name):
                raise ImportError(_problem)
        from .integrations import openmmlab  # noqa: F401
    register_with_installed()

__all__ = ['__version__']


def __getattr__(name: str) -> Any:
    """Import the runner when it is used: a backbone does not need it."""
    if name == 'Runner':
        from .engine import Runner

        return Runner
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
