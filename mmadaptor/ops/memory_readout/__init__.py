"""Adaptor-T's gather: a few places of the state map for each token."""

from .op import memory_readout

__all__ = ['memory_readout']
