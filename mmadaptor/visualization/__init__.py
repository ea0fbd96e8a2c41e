# SPDX-License-Identifier: Apache-2.0
"""Figures of models and their adaptors. Training does not need this package."""

from mmadaptor.models.record import Lattice, Record, lattice_of, record_memory

from .decay import decay_maps
from .draw import Scene, draw_fields, draw_memory
from .enlarge import draw_large
from .receptive_field import receptive_field, without_adaptors

__all__ = [
    'Lattice',
    'Record',
    'Scene',
    'decay_maps',
    'draw_fields',
    'draw_large',
    'draw_memory',
    'lattice_of',
    'receptive_field',
    'record_memory',
    'without_adaptors',
]
