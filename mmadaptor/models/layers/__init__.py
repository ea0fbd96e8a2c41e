# SPDX-License-Identifier: Apache-2.0
"""Layers of the backbones, one per file."""

from .adaptor_s import AdaptorS
from .adaptor_t import AdaptorT
from .bimamba import BiMamba
from .ss2d import SS2D
from .vim_block import VimBlock
from .vmamba_block import Downsample, VMambaBlock

__all__ = [
    'SS2D',
    'AdaptorS',
    'AdaptorT',
    'BiMamba',
    'Downsample',
    'VMambaBlock',
    'VimBlock',
]
