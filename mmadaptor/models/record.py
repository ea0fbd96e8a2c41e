# SPDX-License-Identifier: Apache-2.0
"""Records of the scans and the Adaptor-Ts of a backbone for given images."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.models import Vim
from mmadaptor.models.layers import SS2D, AdaptorT, BiMamba
from mmadaptor.models.layers.bimamba import in_order

NAMES = ('rows', 'columns', 'rows reversed', 'columns reversed')


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


def directions(mixer: SS2D | BiMamba) -> list[str]:
    """Return the names of the scan directions of a mixer."""
    # Vim has two directions, both along rows.
    return list(NAMES if isinstance(mixer, SS2D) else NAMES[::2])


def log_decays(record: Record, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the logarithms of the decays of a scan, step size times A.

    From one pixel of a scan to the next, a state is multiplied by the decay of the next
    pixel.

    Args:
        record: Record of the block.
        dtype: Precision of the result. Default: float32.

    Returns:
        `(B, H, W, K, D, N)`. The class token of Vim is no pixel: its decay is part of
        that of the pixel scanned after it.
    """
    delta, bias, A = (
        record.arguments[name].detach().to(dtype)
        for name in ('delta', 'delta_bias', 'A')
    )
    if isinstance(record.mixer, SS2D):
        return F.softplus(delta + bias).unsqueeze(-1) * A
    forward, backward = in_order(F.softplus(delta + bias[:, None]))  # (B, L, D) each
    height, width = record.locations.shape[1:3]
    middle = height * width // 2  # the class token, as split_class_token has it
    # Its step is added to the patch after it, and in the other direction before it.
    # With a single patch there is none before it, and the sum is empty.
    before, token, after = forward.tensor_split((middle, middle + 1), dim=1)
    forward = torch.cat([before, token + after[:, :1], after[:, 1:]], dim=1)
    before, token, after = backward.tensor_split((middle, middle + 1), dim=1)
    backward = torch.cat([before[:, :-1], before[:, -1:] + token, after], dim=1)
    steps = torch.stack([forward, backward], dim=2)  # (B, H W, 2, D)
    return steps.unflatten(1, (height, width)).unsqueeze(-1) * A.unflatten(0, (2, -1))


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, Record]]:
    """Record the scans and places of each call of a model inside the context.

    Args:
        model: A backbone, or a model with one.

    Yields:
        The records by path of each mixer with an Adaptor-T, filled by a call.
    """
    records: dict[str, Record] = {}
    mixers = remembering_mixers(model)

    def note_scan(path: str, _: nn.Module, args: tuple, arguments: dict) -> None:
        records.pop(path, None)  # so that it is the last one again
        records[path] = Record(mixers[path], arguments)

    def note_places(adaptor: AdaptorT, _: nn.Module, args: tuple) -> None:
        # Blocks may share an adaptor. This call belongs to the last scan.
        last = records[next(reversed(records))]
        last.locations, last.weights = adaptor.locate(args[1])

    with ExitStack() as hooks:
        for path, mixer in mixers.items():
            hooks.enter_context(
                mixer.scan.register_forward_pre_hook(
                    partial(note_scan, path), with_kwargs=True
                )
            )
        for adaptor in {mixer.temporal for mixer in mixers.values()}:
            hooks.enter_context(
                adaptor.memory.register_forward_pre_hook(partial(note_places, adaptor))
            )
        yield records


@torch.no_grad()
def record_memory(backbone: nn.Module, images: Tensor) -> dict[str, Record]:
    """Run a backbone and record the places of its Adaptor-Ts.

    Args:
        backbone: The backbone.
        images: `(B, in_channels, H, W)`.

    Returns:
        The records by path of each mixer with an Adaptor-T.
    """
    with recording(backbone) as records:
        backbone(images)
    return records
