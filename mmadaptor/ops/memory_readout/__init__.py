# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T in one pass: gather and readout from the predicted places."""

from .op import memory_readout
from .places import find_places

__all__ = ['find_places', 'memory_readout']
