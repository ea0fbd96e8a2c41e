# SPDX-License-Identifier: Apache-2.0
"""Records of the scans and the Adaptor-Ts of a backbone for given images."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmadaptor.models import Vim
from mmadaptor.models.layers import SS2D, AdaptorT, BiMamba


@dataclass(frozen=True)
class Lattice:
    """Positions of the tokens of a map on the image.

    Args:
        stride: Distance between neighboring tokens, in pixels.
        first: Row and column of the center of the first token, in pixels.
    """

    stride: int
    first: float


def lattice_of(backbone: nn.Module, block: str) -> Lattice:
    """Return the positions of the tokens of a block on the image.

    Args:
        backbone: A VMamba or a Vim, or a module that contains one.
        block: Path of the block in it.

    Returns:
        The lattice. The stride-2 convolutions of VMamba are centered at every second
        pixel, starting with the first. The patches of Vim do not overlap.
    """
    for module in backbone.modules():
        if isinstance(module, Vim):
            patch, _ = module.patch_embed.projection.stride
            return Lattice(patch, (patch - 1) / 2)
    *_, stage, _ = block.split('.')  # stages.2.0
    return Lattice(4 * 2 ** int(stage), 0)


@dataclass
class Record:
    """Record of one block.

    Args:
        mixer: Token mixer of the block.
        arguments: Arguments of its scan.
        locations: Places of each token, `(B, H, W, K, S, P, 2)`, (row, column) in
            pixels of the map.
        weights: Weights of the places, `(B, H, W, K, S, P)`.
    """

    mixer: SS2D | BiMamba
    arguments: dict[str, Tensor]
    locations: Tensor | None = None
    weights: Tensor | None = None


def remembering_mixers(backbone: nn.Module) -> dict[str, SS2D | BiMamba]:
    """Return the token mixers with an Adaptor-T.

    Args:
        backbone: A backbone, or a model with one.

    Returns:
        The mixers by path, in the order of the network.
    """
    return {
        path: module
        for path, module in backbone.named_modules()
        if isinstance(module, (SS2D, BiMamba)) and module.temporal is not None
    }


@contextmanager
def _listening(
    owner: nn.Module, name: str, tell: Callable[[Any], None]
) -> Iterator[None]:
    """Pass each result of a method to `tell` inside the context."""
    method = getattr(owner, name)

    def listened(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        tell(result)
        return result

    setattr(owner, name, listened)
    try:
        yield
    finally:
        delattr(owner, name)


@torch.no_grad()
def record_memory(backbone: nn.Module, images: Tensor) -> dict[str, Record]:
    """Run a backbone and record the places of its Adaptor-Ts.

    Args:
        backbone: The backbone.
        images: `(B, in_channels, H, W)`.

    Returns:
        The records by path of each mixer with an Adaptor-T.
    """
    records = {}

    def note_scan(path: str, mixer: nn.Module, arguments: dict) -> None:
        records[path] = Record(mixer, arguments)

    def note_places(adaptor: AdaptorT, predicted: Tensor) -> None:
        # Blocks may share an adaptor. This call belongs to the last scan.
        last = list(records.values())[-1]
        last.locations, last.weights = adaptor.locate(predicted)

    mixers = remembering_mixers(backbone)
    with ExitStack() as stack:
        for path, mixer in mixers.items():
            stack.enter_context(
                _listening(
                    mixer,
                    'scan_arguments',
                    lambda result, path=path, mixer=mixer: note_scan(
                        path, mixer, result
                    ),
                )
            )
        for adaptor in {mixer.temporal for mixer in mixers.values()}:
            stack.enter_context(
                _listening(
                    adaptor,
                    'predict',
                    lambda result, adaptor=adaptor: note_places(adaptor, result),
                )
            )
        backbone(images)
    return records
