# SPDX-License-Identifier: Apache-2.0
"""Backbones, necks and their layers."""

from .backbones import MambaAdaptor, Vim, VMamba
from .necks import SimpleFeaturePyramid

__all__ = ['MambaAdaptor', 'SimpleFeaturePyramid', 'VMamba', 'Vim']
