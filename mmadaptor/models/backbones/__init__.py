"""The registered backbones."""

from .mamba_adaptor import MambaAdaptor
from .vmamba import VMamba

__all__ = ['MambaAdaptor', 'VMamba']
