"""The compiled ops. They need torch alone."""

from .selective_scan import selective_scan, selective_scan_states

__all__ = ['selective_scan', 'selective_scan_states']
