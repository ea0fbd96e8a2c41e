# SPDX-License-Identifier: Apache-2.0
"""Tuning of a pretrained backbone: trainable and shared parameters."""

import re
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from .arguments import check_patterns
from .layers import AdaptorS, AdaptorT

ADAPTORS = (AdaptorT, AdaptorS)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
PARTS = ('adaptors', 'norms', 'biases')


def train_only(backbone: nn.Module, parts: Sequence[str]) -> None:
    """Freeze a backbone except some parts.

    Args:
        backbone: The backbone, changed in place.
        parts: Any of `'adaptors'`, `'norms'` (weights and biases), `'biases'` (all
            parameters of that name, including the step size of the scan), and regular
            expressions that are searched in the names of parameters, such as
            `'mixer.conv.'`. An empty list is a linear probe.

    Raises:
        ValueError: A part is not a regular expression, or the backbone does not have
            it.
    """
    expected = f'values from {list(PARTS)} and regular expressions'
    check_patterns('trainable', parts, expected)
    backbone.requires_grad_(False)
    kind = type(backbone).__name__
    for part in parts:
        chosen = _parameters_of(backbone, part)
        if not chosen and part in PARTS:
            raise ValueError(f'`trainable` contains {part!r}, but {kind} has no {part}')
        if not chosen:
            *_, example = (name for name, _ in backbone.named_parameters())
            raise ValueError(
                f'`trainable` must contain some of {list(PARTS)} or patterns of names '
                f'of parameters of {kind}, such as {example!r}, got {part!r}'
            )
        for parameter in chosen:
            parameter.requires_grad_(True)


def _parameters_of(backbone: nn.Module, part: str) -> list[nn.Parameter]:
    """Return the parameters of one of `PARTS`, or whose name has a pattern."""
    if part not in ('adaptors', 'norms'):
        pattern = 'bias$' if part == 'biases' else part
        return [p for n, p in backbone.named_parameters() if re.search(pattern, n)]
    kind = ADAPTORS if part == 'adaptors' else NORMS
    return [
        parameter
        for module in backbone.modules()
        if isinstance(module, kind)
        for parameter in module.parameters()
    ]


def keep_frozen_in_eval(backbone: nn.Module) -> None:
    """Set all modules without trainable parameters to evaluation mode.

    This stops updates of their norm statistics. Modules without any parameters, such
    as drop path, stay in training mode where the module that contains them trains more
    than adaptors.
    """
    adapting = {
        parameter
        for module in backbone.modules()
        if isinstance(module, ADAPTORS)
        for parameter in module.parameters()
    }

    def visit(module: nn.Module, trains: bool) -> None:
        parameters = list(module.parameters())
        trained = {p for p in parameters if p.requires_grad}
        if parameters:
            trains = bool(trained - adapting)
        module.training &= bool(trained) or (trains and not parameters)
        for child in module.children():
            visit(child, trains)

    visit(backbone, False)


def share_adaptors(backbone: nn.Module, share: bool | str) -> None:
    """Let several blocks of a backbone use the same adaptors.

    Args:
        backbone: Its adaptors are replaced by the first of each kind.
        share: True: one adaptor of each kind for all blocks of equal width. `'all'`:
            one for all blocks, which must have equal width. False: no sharing.

    Raises:
        ValueError: `share` has another value, or `'all'` meets different widths.

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
                f"`share='all'` requires blocks of equal width: {path}: expected "
                f'{shared.channels} channels as in {shown}, got {adaptor.channels}'
            )
        parent, _, name = path.rpartition('.')
        setattr(backbone.get_submodule(parent), name, shared)
