# SPDX-License-Identifier: Apache-2.0
"""Mamba-Adaptor for OpenMMLab.

If mmengine and mmcv are installed, importing it registers the backbones. Hooks and
the runner (:mod:`mmadaptor.engine`) are imported when a config names one.
:mod:`mmadaptor.ops` needs only torch.
"""

import importlib
import importlib.util
from typing import Any

from .version import __version__

MINIMUM_VERSIONS = dict(torch='2.10', mmengine='0.10.12', mmcv='2.3.6')


def _check_versions() -> None:
    """Raise ImportError if a library is older than the tested versions."""
    from mmengine.utils import digit_version

    for name, minimum in MINIMUM_VERSIONS.items():
        module = importlib.import_module(name)
        if digit_version(module.__version__) < digit_version(minimum):
            raise ImportError(
                f'mmadaptor {__version__} needs {name}>={minimum} and finds '
                f'{module.__version__} in {module.__file__}. The maintained '
                'OpenMMLab distributions are named onedl-*: see README.md'
            )


if all(map(importlib.util.find_spec, ('mmengine', 'mmcv'))):
    _check_versions()
    from . import models  # noqa: F401

__all__ = ['__version__']


def __getattr__(name: str) -> Any:
    """Import the runner when it is used: a backbone does not need it."""
    if name == 'Runner':
        from .engine import Runner

        return Runner
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
