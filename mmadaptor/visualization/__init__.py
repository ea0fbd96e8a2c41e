"""Pictures of what models and their adaptors do; none is needed to train."""

from .decay import decay_maps
from .draw import Scene, draw_fields, draw_memory
from .enlarge import draw_large
from .receptive_field import receptive_field, without_adaptors
from .record import Record, record_memory

__all__ = [
    'Record', 'Scene', 'decay_maps', 'draw_fields', 'draw_large', 'draw_memory',
    'receptive_field', 'record_memory', 'without_adaptors'
]
