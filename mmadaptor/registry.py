# SPDX-License-Identifier: Apache-2.0
"""The registries: children of mmengine's, so that every toolbox finds them.

A config of mmdet, mmseg or mmpretrain names a module as `mmadaptor.NAME`.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmadaptor', locations=['mmadaptor.models']
)
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmadaptor', locations=['mmadaptor.engine']
)
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmadaptor',
    locations=['mmadaptor.engine'],
)
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmadaptor',
    locations=['mmadaptor.engine'],
)
BACKBONES = MODELS
