"""The registries: children of mmengine's, so that every toolbox finds them.

A config of mmdet, mmseg or mmpretrain names a module as `mmadaptor.NAME`.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmadaptor',
    locations=['mmadaptor.models'])
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmadaptor',
    locations=['mmadaptor.engine'])
BACKBONES = MODELS
