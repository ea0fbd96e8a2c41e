"""The layers: one idea a file."""

from .adaptor_s import AdaptorS
from .adaptor_t import AdaptorT
from .ss2d import SS2D
from .vmamba_block import Downsample, VMambaBlock

__all__ = ['SS2D', 'AdaptorS', 'AdaptorT', 'Downsample', 'VMambaBlock']
