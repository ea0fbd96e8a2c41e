"""The backbones and what they are made of."""

from .backbones import MambaAdaptor, VMamba

__all__ = ['MambaAdaptor', 'VMamba']
