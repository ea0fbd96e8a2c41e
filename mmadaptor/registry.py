# SPDX-License-Identifier: Apache-2.0
"""The registries: children of mmengine's, so that every toolbox finds them.

A config of mmdet, mmseg or mmpretrain names a module as `mmadaptor.NAME`.
"""

from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope='mmadaptor', locations=[location])


def in_scope(registry: Registry, kind: Any) -> Any:
    """Return what a config calls by a name in its scope; None for nothing.

    Args:
        registry: A registry of mmengine, which by itself does not look into those of
            the toolboxes.
        kind: The name. Anything else, such as a class, is returned as it is.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as registry_of_scope:
        return registry_of_scope.get(kind)


MODELS = BACKBONES = _child(
    'model', MMENGINE_MODELS, 'mmadaptor.integrations.openmmlab'
)
HOOKS = _child('hook', MMENGINE_HOOKS, 'mmadaptor.engine')
RUNNERS = _child('runner', MMENGINE_RUNNERS, 'mmadaptor.engine')
OPTIM_WRAPPERS = _child('optim_wrapper', MMENGINE_OPTIM_WRAPPERS, 'mmadaptor.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optim wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'mmadaptor.engine'
)

# For `_base_ = 'mmadaptor::...'` and `'mmseg::...'`: mmengine looks for mmseg by the
# name of a distribution, which is another one with OneDL.
MODULE2PACKAGE.update(mmadaptor='mmadaptor', mmseg='mmseg')
