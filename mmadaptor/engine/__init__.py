# SPDX-License-Identifier: Apache-2.0
"""The runner, hooks and optimizer of a training, and what the tools share.

Importing it makes mmengine read checkpoints weights-only, also in the toolboxes'
inferencers; the configs of mmadaptor import it.
"""

from mmadaptor.checkpoints.openmmlab import register_safe_loaders

from .amp import CPUAmpOptimWrapper
from .hooks import (
    AdaptorCheckpointHook,
    ConfusionMatrixHook,
    CurvesHook,
    ExactResumeHook,
    MissingValidationHook,
    NonFiniteHook,
    StrictLoadHook,
)
from .optim import OptimWrapperConstructor
from .runner import Runner

register_safe_loaders()

__all__ = [
    'AdaptorCheckpointHook',
    'CPUAmpOptimWrapper',
    'ConfusionMatrixHook',
    'CurvesHook',
    'ExactResumeHook',
    'MissingValidationHook',
    'NonFiniteHook',
    'OptimWrapperConstructor',
    'Runner',
    'StrictLoadHook',
]
