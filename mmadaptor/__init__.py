# SPDX-License-Identifier: Apache-2.0
"""Mamba-Adaptor for OpenMMLab.

Importing it registers the backbones and hooks that a config may name, where
mmengine is installed; :mod:`mmadaptor.ops` needs torch alone.
"""

import importlib
import importlib.util

from .version import __version__

MINIMUM_VERSIONS = dict(torch='2.8', mmengine='0.10.12', mmcv='2.3.6')


def _check_versions() -> None:
    """Raise ImportError where a library is older than what is tested."""
    from mmengine.utils import digit_version

    for name, minimum in MINIMUM_VERSIONS.items():
        module = importlib.import_module(name)
        if digit_version(module.__version__) < digit_version(minimum):
            raise ImportError(
                f'mmadaptor {__version__} needs {name}>={minimum} and finds '
                f'{module.__version__} in {module.__file__}. The maintained '
                'OpenMMLab distributions are named onedl-*: see README.md'
            )


if importlib.util.find_spec('mmengine') is not None:
    _check_versions()
    from . import engine, models  # noqa: F401

__all__ = ['__version__']
