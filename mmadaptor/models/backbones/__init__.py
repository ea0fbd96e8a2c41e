# SPDX-License-Identifier: Apache-2.0
"""Registered backbones."""

from .mamba_adaptor import MambaAdaptor
from .vim import Vim
from .vmamba import VMamba

__all__ = ['MambaAdaptor', 'VMamba', 'Vim']
