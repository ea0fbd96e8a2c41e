"""Hooks, and what the tools do before and around mmengine's runner."""

from .checkpoint import load_backbone
from .errors import InputError
from .hooks import (
    AdaptorCheckpointHook,
    CurvesHook,
    EpochSeedHook,
    SafeCheckpointHook,
    StrictLoadHook,
)
from .safe_loading import register_safe_loaders

register_safe_loaders()

__all__ = [
    'AdaptorCheckpointHook', 'CurvesHook', 'EpochSeedHook', 'InputError',
    'SafeCheckpointHook', 'StrictLoadHook', 'load_backbone'
]
