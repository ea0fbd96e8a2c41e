# SPDX-License-Identifier: Apache-2.0
"""Where Adaptor-T looks, and what the scan keeps, as further outputs of a model."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from mmadaptor.models.record import Record, directions, lattice_of, log_decays

OUTPUTS = ('places', 'weights', 'decays')
"""What each layer with an Adaptor-T returns."""


def memory_outputs(records: Mapping[str, Record]) -> dict[str, Tensor]:
    """Return the outputs of all layers with an Adaptor-T.

    Args:
        records: By path, in the order of the network, as `recording` fills them.

    Returns:
        Of layer i: `places_i` `(B, H, W, K, S, P, 2)` as (row, column) on its map,
        `weights_i` `(B, H, W, K, S, P)`, and `decays_i` `(B, H, W, K, D N)`: the
        logarithm of what the scan multiplies each state by as it comes to a pixel.
    """
    found = {}
    for i, record in enumerate(records.values()):
        values = (
            record.locations,
            record.weights,
            log_decays(record, record.locations.dtype).flatten(-2),
        )
        found.update(zip(_names(i), values, strict=True))
    return found


def describe_memory(model: nn.Module, recorded: Iterable[str]) -> list[dict[str, Any]]:
    """Describe the outputs of :func:`memory_outputs`, for the metadata of a file.

    Args:
        model: A backbone, or a model with one.
        recorded: The paths of the records, in their order. Layers behind the last
            output of a backbone have none.

    Returns:
        For each layer the path of its block as `layer`, the names of its outputs by
        `OUTPUTS`, the names of its `directions`, and the `stride` and the center of
        the `first` token of its map in pixels of the image.
    """
    layers = []
    for i, path in enumerate(recorded):
        block = path.removesuffix('.mixer')
        lattice = lattice_of(model, block)
        layers.append(
            dict(
                layer=block.removeprefix('backbone.'),
                **dict(zip(OUTPUTS, _names(i), strict=True)),
                directions=directions(model.get_submodule(path)),
                stride=lattice.stride,
                first=lattice.first,
            )
        )
    return layers


def _names(i: int) -> list[str]:
    return [f'{name}_{i}' for name in OUTPUTS]
