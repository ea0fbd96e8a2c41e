# SPDX-License-Identifier: Apache-2.0
"""The convolutions of Adaptor-S: depthwise, several dilations, in one pass."""

from .op import dilated_depthwise

__all__ = ['dilated_depthwise']
