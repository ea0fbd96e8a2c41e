# SPDX-License-Identifier: Apache-2.0
"""Strict loading: every weight of a checkpoint and of a model is accounted for."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mmadaptor.errors import CheckpointMismatchError, InputError
from mmadaptor.log import warn

from .adaptor_only import complete, holds_adaptors_only
from .loading import meta_of, read_checkpoint, renamed, weights_of, without

SHOWN = 5
BACKBONE = 'backbone.'
TASKS = dict(
    mmdet='detection (mmdet)',
    mmseg='segmentation (mmseg)',
    mmpretrain='classification (mmpretrain)',
)
SKIP_HINT = (
    '\nTo start from it anyway and train some parts from scratch, such as a '
    'head for other classes, name them: '
    "default_hooks=dict(strict_load=dict(type='mmadaptor.StrictLoadHook', "
    "skip=[r'^head\\.']))."
)


@dataclass
class Mismatch:
    """The differences between a state dict and the module that loads it.

    Args:
        missing: Names that only the module has.
        unexpected: Names that only the state dict has.
        shapes: Name, the module's shape, and the state dict's shape or the type
            of what it has there.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[tuple[str, tuple, tuple | str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        shapes = [
            f'{name}: expected {expected}, got {got}'
            for name, expected, got in self.shapes
        ]
        parts = [
            ('missing', self.missing),
            ('unexpected', self.unexpected),
            ('of another shape', shapes),
        ]
        return '\n'.join(_listed(what, names) for what, names in parts if names)


def _listed(what: str, names: Sequence[str]) -> str:
    more = [f'... and {len(names) - SHOWN} more'] * (len(names) > SHOWN)
    return '\n    '.join([f'  {len(names)} {what}:', *names[:SHOWN], *more])


def load_strict(
    module: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    source: str,
    optional: Sequence[str] = (),
    surplus: Sequence[str] = (),
) -> list[str]:
    """Load a state dict and account for every name in it.

    Args:
        module: The module that gets the weights.
        state_dict: The weights by the module's own names.
        source: Where they come from, for the error message.
        optional: Regular expressions of names that the state dict may lack.
            Shapes must agree all the same.
        surplus: Regular expressions of names that only the state dict may have.

    Returns:
        The optional names that the state dict lacks.

    Raises:
        CheckpointMismatchError: Names are missing or left over, or shapes
            differ. The message lists the first of each.
    """
    mismatch = load_and_compare(module, state_dict, source)
    absent = mismatch.missing
    mismatch.missing = unmatched(absent, optional)
    mismatch.unexpected = unmatched(mismatch.unexpected, surplus)
    if mismatch:
        raise CheckpointMismatchError(
            f'{source} does not fit {type(module).__name__}.\n{mismatch}\nUse '
            'the config that the checkpoint was trained with, or a checkpoint '
            f'of this config.{_shape_hints(module, mismatch)}'
        )
    _check_shared(module, state_dict, source)
    return absent


def load_and_compare(
    module: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str
) -> Mismatch:
    """Load what fits of a state dict, and return what does not fit.

    Counters of batches, which old files lack, are no difference.

    Raises:
        CheckpointMismatchError: A module refuses its part of the state dict.
    """
    shapes, left_out = [], set()
    try:
        # Modules resize and rename in their own loading, such as position
        # embeddings: it decides what fits.
        keys = module.load_state_dict(state_dict, strict=False)
    except RuntimeError:
        own = module.state_dict()
        shapes = [
            (name, _shape(own[name]), _shape(value))
            for name, value in state_dict.items()
            if isinstance(own.get(name), torch.Tensor)
            and _shape(value) != _shape(own[name])
        ]
        left_out = {name for name, *_ in shapes}
        fitting = without(state_dict, left_out)
        try:
            keys = module.load_state_dict(fitting, strict=False)
        except RuntimeError as error:
            raise CheckpointMismatchError(
                f'{source} does not fit {type(module).__name__}: {error}'
            ) from error
    missing = [
        name
        for name in keys.missing_keys
        if name not in left_out and 'num_batches_tracked' not in name
    ]
    return Mismatch(missing, list(keys.unexpected_keys), shapes)


def _shape(value: Any) -> tuple | str:
    """Return the shape of a tensor, or the type of anything else."""
    is_tensor = isinstance(value, torch.Tensor)
    return tuple(value.shape) if is_tensor else type(value).__name__


def _shape_hints(module: nn.Module, mismatch: Mismatch) -> str:
    """Return what modules with a method `shape_hint` say of their misfits."""
    hints = ''
    for path, _, got in mismatch.shapes:
        parent, _, name = path.rpartition('.')
        owner = module.get_submodule(parent)
        if hasattr(owner, 'shape_hint') and isinstance(got, tuple):
            hints += owner.shape_hint(name, got)
    return hints


def _check_shared(
    module: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str
) -> None:
    """Refuse different values for the names of one shared parameter."""
    first = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        other = first.setdefault(value, name)
        shared = name != other and {name, other} <= state_dict.keys()
        if shared and not torch.equal(state_dict[name], state_dict[other]):
            raise CheckpointMismatchError(
                f'{source}: {name} and {other} are one shared parameter of '
                f'{type(module).__name__}: expected equal weights, got '
                'different ones.'
            )


def unmatched(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names in which none of the regular expressions is found."""
    return [n for n in names if not any(re.search(p, n) for p in patterns)]


def prepare(
    model: nn.Module, checkpoint: dict, source: str, skip: Sequence[str] = ()
) -> None:
    """Make a checkpoint ready to be loaded into a whole model.

    In place: adds the base that a checkpoint of adaptors lacks, drops the prefix of a
    wrapper and the weights to skip.
    """
    complete(model, checkpoint, source)
    weights = renamed(
        weights_of(checkpoint, source), lambda name: re.sub(r'^module\.', '', name)
    )
    skipped = weights.keys() - set(unmatched(weights, skip))
    averages = checkpoint.get('ema_state_dict')
    for name in skipped:
        # mmengine's EMAHook swaps the weights and their averages.
        if averages is not None:
            averages.pop(f'module.{name}', None)
    checkpoint['state_dict'] = without(weights, skipped)


def load_model(
    model: nn.Module,
    checkpoint: dict,
    source: str,
    skip: Sequence[str] = (),
    optional: Sequence[str] = (),
    starts: bool = False,
) -> None:
    """Load a prepared checkpoint into a whole model, strictly.

    Args:
        model: The model, without a wrapper.
        checkpoint: The content of the file, after :func:`prepare`.
        source: Where it comes from, for error messages.
        skip: Regular expressions of names that keep their initial values.
        optional: Regular expressions of names that the checkpoint may lack.
        starts: Whether a training starts from it: only then can names be
            skipped, and the error message says so.

    Raises:
        CheckpointMismatchError: Names or shapes do not fit.
    """
    try:
        absent = load_strict(
            model, weights_of(checkpoint, source), source, optional=[*skip, *optional]
        )
    except CheckpointMismatchError as error:
        hint = _task_hint(checkpoint) + (SKIP_HINT if starts else '')
        raise CheckpointMismatchError(f'{error}{hint}') from error
    _log_absent(source, unmatched(absent, skip))


def load_backbone(
    module: nn.Module,
    init_cfg: Mapping[str, Any],
    optional: Sequence[str] = (),
    surplus: Sequence[str] = (),
    translate: Callable[[Mapping, str], Mapping] | None = None,
) -> None:
    """Load `init_cfg=dict(type='Pretrained', ...)`, strictly.

    mmengine's own initializer only logs what it could not load.

    Args:
        module: The module that gets the weights.
        init_cfg: `checkpoint`, a path or URL; `prefix`, the part of the
            checkpoint to load (default: all of it, or the part `'backbone.'` if
            the module has no such names); `map_location` (default: `'cpu'`).
        optional: Regular expressions of names that the checkpoint may lack,
            such as adaptors. The log names those that it lacks.
        surplus: Regular expressions of names that only the checkpoint may have.
        translate: Returns a state dict by our names, given the state dict and the
            source. Default: they are ours.

    Raises:
        InputError: The file or the prefix is missing.
        CheckpointMismatchError: Names or shapes do not fit.
    """
    source = os.fspath(init_cfg['checkpoint'])
    checkpoint = read_checkpoint(source, init_cfg.get('map_location', 'cpu'))
    state_dict = weights_of(checkpoint, source)
    if translate is not None:
        state_dict = translate(state_dict, source)
    prefix = init_cfg.get('prefix') or ''
    is_part = has_backbone(state_dict) and not has_backbone(module.state_dict())
    if is_part and not prefix:
        prefix = BACKBONE
    if prefix:
        state_dict = below(state_dict, prefix, source)
    try:
        absent = load_strict(module, state_dict, source, optional, surplus)
    except CheckpointMismatchError as error:
        hint = (
            '\nIt holds only what was tuned, without its base: merge both '
            'by tools/merge_adaptors.py.'
            if holds_adaptors_only(checkpoint)
            else _prefix_hint(module, state_dict, prefix)
        )
        raise CheckpointMismatchError(f'{error}{hint}') from error
    _log_absent(source, absent)
    note_source(module, source)


def note_source(module: nn.Module, source: str) -> None:
    """Note for mmengine's log where the weights of a module come from."""
    if hasattr(module, '_params_init_info'):
        from mmengine.model.weight_init import update_init_info

        update_init_info(module, init_info=f'Pretrained: loaded from {source}')


def below(
    state_dict: Mapping[str, torch.Tensor], prefix: str, source: str
) -> dict[str, torch.Tensor]:
    """Return the weights below a prefix, without it.

    Raises:
        InputError: There is none.
    """
    prefix = prefix.rstrip('.') + '.'
    found = renamed(
        state_dict,
        lambda name: name[len(prefix) :] if name.startswith(prefix) else None,
    )
    if not found:
        roots = sorted({name.split('.')[0] + '.' for name in state_dict})
        raise InputError(
            f"{source} has no name with the prefix '{prefix}'; its names start "
            f'with {", ".join(roots[:SHOWN])}'
        )
    return found


def in_backbone(patterns: Iterable[str]) -> list[str]:
    """Return patterns of a backbone's names for those of a whole model."""
    return [rf'^{BACKBONE}{pattern.lstrip("^")}' for pattern in patterns]


def has_backbone(names: Iterable[str]) -> bool:
    """Return whether names are those of a whole model, with a backbone."""
    return any(name.startswith(BACKBONE) for name in names)


def _task_hint(checkpoint: Mapping) -> str:
    """Name the task of a checkpoint that a toolbox saved."""
    config = str(meta_of(checkpoint).get('cfg', ''))
    found = re.search(r"^default_scope\s*=\s*'(\w+)'", config, re.MULTILINE)
    if not found:
        return ''
    scope = found.group(1)
    return f'\nThe checkpoint holds a model of {TASKS.get(scope, scope)}.'


def _prefix_hint(module: nn.Module, state_dict: Mapping[str, Any], given: str) -> str:
    """Name the prefix that would have fitted, if there is one."""
    first = next(iter(module.state_dict()), None)
    for name in state_dict:
        if first and name.endswith('.' + first):
            start = f'{given.rstrip(".")}.' if given else ''
            prefix = start + name[: -len(first)]
            return f"\nIts names suggest init_cfg=dict(prefix='{prefix}', ...)."
    return ''


def _log_absent(source: str, names: Sequence[str]) -> None:
    if names:
        warn(
            f'{source} lacks {len(names)} weights, such as {min(names)}. '
            'They keep their initial values.'
        )
