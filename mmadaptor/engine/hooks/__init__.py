# SPDX-License-Identifier: Apache-2.0
"""Hooks for mmengine's runner, each registered as `mmadaptor.NAME`."""

from .adaptor_checkpoint_hook import AdaptorCheckpointHook
from .confusion_matrix_hook import ConfusionMatrixHook
from .curves_hook import CurvesHook
from .exact_resume_hook import ExactResumeHook
from .missing_validation_hook import MissingValidationHook
from .non_finite_hook import NonFiniteHook
from .strict_load_hook import StrictLoadHook

__all__ = [
    'AdaptorCheckpointHook',
    'ConfusionMatrixHook',
    'CurvesHook',
    'ExactResumeHook',
    'MissingValidationHook',
    'NonFiniteHook',
    'StrictLoadHook',
]
