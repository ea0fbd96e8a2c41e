# SPDX-License-Identifier: Apache-2.0
"""The selective scan of a map in four directions."""

from .op import cross_readout, cross_selective_scan, cross_selective_scan_states

__all__ = ['cross_readout', 'cross_selective_scan', 'cross_selective_scan_states']
