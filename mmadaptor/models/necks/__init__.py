# SPDX-License-Identifier: Apache-2.0
"""Registered necks."""

from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
