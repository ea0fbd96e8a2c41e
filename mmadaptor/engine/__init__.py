# SPDX-License-Identifier: Apache-2.0
"""Hooks, and what the tools do before and around mmengine's runner."""

from mmadaptor.checkpoints.loading import register_safe_loaders
from mmadaptor.checkpoints.strict import load_backbone
from mmadaptor.errors import InputError

from .amp import CPUAmpOptimWrapper
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
    'AdaptorCheckpointHook',
    'CPUAmpOptimWrapper',
    'ConfusionMatrixHook',
    'CurvesHook',
    'EpochSeedHook',
    'GuardedLoading',
    'InputError',
    'SafeCheckpointHook',
    'StrictLoadHook',
    'load_backbone',
]
