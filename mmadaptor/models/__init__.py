# SPDX-License-Identifier: Apache-2.0
"""The backbones, the necks, and what they are made of."""

from .backbones import MambaAdaptor, Vim, VMamba
from .necks import SimpleFeaturePyramid

__all__ = ['MambaAdaptor', 'SimpleFeaturePyramid', 'VMamba', 'Vim']
