# SPDX-License-Identifier: Apache-2.0
"""Tuning a pretrained backbone: what of it trains, and what is shared."""

from collections.abc import Collection, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from .layers import AdaptorS, AdaptorT

ADAPTORS = (AdaptorT, AdaptorS)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
PARTS = ('adaptors', 'norms', 'biases')


def train_only(backbone: nn.Module, parts: Sequence[str]) -> None:
    """Freeze a backbone but for some parts.

    Args:
        backbone: Is frozen.
        parts: Any of `'adaptors'`, `'norms'` (their weights and biases) and
            `'biases'` (every parameter named so, the scan's step's too). None
            of them: a linear probe.

    Raises:
        ValueError: For an unknown part, or one that the backbone has not.
    """
    if (
        isinstance(parts, str)
        or not isinstance(parts, Collection)
        or not set(parts) <= set(PARTS)
    ):
        raise ValueError(f'`trainable` must be a list of {list(PARTS)}, got {parts!r}')
    backbone.requires_grad_(False)
    for part in parts:
        chosen = _parameters_of(backbone, part)
        if not chosen:
            raise ValueError(
                f'`trainable` asks for the {part} of '
                f'{type(backbone).__name__}, which has none'
            )
        for parameter in chosen:
            parameter.requires_grad_(True)


def _parameters_of(backbone: nn.Module, part: str) -> list[nn.Parameter]:
    if part == 'biases':
        return [p for n, p in backbone.named_parameters() if n.endswith('bias')]
    kind = ADAPTORS if part == 'adaptors' else NORMS
    return [
        parameter
        for module in backbone.modules()
        if isinstance(module, kind)
        for parameter in module.parameters()
    ]


def keep_frozen_in_eval(backbone: nn.Module) -> None:
    """Put everything without a trainable parameter into evaluation mode.

    So drop path and the statistics of norms rest where nothing learns.

    Args:
        backbone: Its modules that train keep their mode.
    """
    for module in backbone.modules():
        if not any(p.requires_grad for p in module.parameters()):
            module.training = False


def share_adaptors(backbone: nn.Module, share: bool | str) -> None:
    """Let blocks of a backbone use the same adaptors.

    Args:
        backbone: Its adaptors are replaced by the first of their kind.
        share: True: one adaptor of a kind for all blocks of equal width.
            `'all'`: one for all blocks, which must have equal width. False:
            nothing is shared.

    Raises:
        ValueError: For another value, or where `'all'` meets another width.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), which shares adaptors in tuning.
    """
    if share not in (True, False, 'all'):
        raise ValueError(
            f"`share` of `adaptors` must be True, False or 'all', got {share!r}"
        )
    if not share:
        return
    first = {}
    adaptors = [
        (path, module)
        for path, module in backbone.named_modules()
        if isinstance(module, ADAPTORS)
    ]
    for path, adaptor in adaptors:
        kind = type(adaptor)
        key = kind if share == 'all' else (kind, adaptor.channels)
        shown, shared = first.setdefault(key, (path, adaptor))
        if shared.channels != adaptor.channels:
            raise ValueError(
                f"`share='all'` needs blocks of equal width: {path}: expected "
                f'{shared.channels} channels, those of {shown}, got '
                f'{adaptor.channels}'
            )
        parent, _, name = path.rpartition('.')
        setattr(backbone.get_submodule(parent), name, shared)
