# SPDX-License-Identifier: Apache-2.0
"""The registered necks."""

from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
