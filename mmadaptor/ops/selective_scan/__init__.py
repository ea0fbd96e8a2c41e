# SPDX-License-Identifier: Apache-2.0
"""The selective scan of a sequence."""

from .op import selective_scan, selective_scan_states

__all__ = ['selective_scan', 'selective_scan_states']
