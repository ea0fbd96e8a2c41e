"""Hooks, and what the tools do before and around mmengine's runner."""

from .amp import CPUAmpOptimWrapper
from .checkpoints.safe_loading import register_safe_loaders
from .checkpoints.strict import load_backbone
from .errors import InputError
from .flop_handles import register_flop_handles
from .hooks import (
    AdaptorCheckpointHook,
    ConfusionMatrixHook,
    CurvesHook,
    EpochSeedHook,
    SafeCheckpointHook,
    StrictLoadHook,
)
from .loading import GuardedLoading

register_flop_handles()
register_safe_loaders()

__all__ = [
    'AdaptorCheckpointHook', 'CPUAmpOptimWrapper', 'ConfusionMatrixHook',
    'CurvesHook', 'EpochSeedHook', 'GuardedLoading', 'InputError',
    'SafeCheckpointHook', 'StrictLoadHook', 'load_backbone'
]
