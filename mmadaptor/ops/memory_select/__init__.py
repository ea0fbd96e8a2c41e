# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T's gather: a few places of the state map for each token."""

from .op import memory_select

__all__ = ['memory_select']
