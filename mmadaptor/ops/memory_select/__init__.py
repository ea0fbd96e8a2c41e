# SPDX-License-Identifier: Apache-2.0
"""The gather of Adaptor-T: a few places of the state map per token."""

from .op import memory_select

__all__ = ['memory_select']
