"""Pictures of what the adaptors do; nothing here is needed to train."""

from .decay import decay_maps
from .draw import Scene, draw_fields, draw_memory
from .receptive_field import receptive_field, without_adaptors
from .record import Record, record_memory

__all__ = [
    'Record', 'Scene', 'decay_maps', 'draw_fields', 'draw_memory',
    'receptive_field', 'record_memory', 'without_adaptors'
]
