# SPDX-License-Identifier: Apache-2.0
"""Adaptor-S's convolutions: depthwise, of several dilations, in one pass."""

from .op import dilated_depthwise

__all__ = ['dilated_depthwise']
