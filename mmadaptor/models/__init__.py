"""The backbones and what they are made of."""

from .backbones import MambaAdaptor, Vim, VMamba

__all__ = ['MambaAdaptor', 'VMamba', 'Vim']
