# SPDX-License-Identifier: Apache-2.0
"""Backbones, a classifier, necks and their layers. They need torch alone."""

from .architectures import ARCHITECTURES, create_backbone, create_classifier
from .backbones import MambaAdaptor, Vim, VMamba
from .classifier import Classifier
from .necks import SimpleFeaturePyramid

__all__ = [
    'ARCHITECTURES',
    'Classifier',
    'MambaAdaptor',
    'SimpleFeaturePyramid',
    'VMamba',
    'Vim',
    'create_backbone',
    'create_classifier',
]
