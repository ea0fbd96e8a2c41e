# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T in one pass: from what is predicted to what memory adds."""

from .op import memory_readout
from .places import find_places

__all__ = ['find_places', 'memory_readout']
