# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that fit their model, and the newest one that is whole."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from mmengine.runner.checkpoint import CheckpointLoader

from mmadaptor.errors import CheckpointMismatchError, DamagedFileError, InputError

from .loading import peek

SHOWN = 5
NOTED = 'tuning'  # in the meta of a checkpoint without the base that it is for
RESUMED = ('meta', 'message_hub')  # what a Runner goes on from


@dataclass
class Mismatch:
    """How a state dict differs from the module that is to take it.

    Args:
        missing: Names that the module has and the state dict has not.
        unexpected: Names that only the state dict has.
        shapes: Name, the module's shape, the state dict's shape, or what is
            there in place of a tensor.
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
    lines = [f'  {len(names)} {what}:', *names[:SHOWN], *more]
    return '\n    '.join(lines)


def load_strict(
    module: torch.nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    source: str,
    optional: Sequence[str] = (),
    surplus: Sequence[str] = (),
) -> list[str]:
    """Loads a state dict and accounts for every name in it.

    Args:
        module: Takes the weights.
        state_dict: The weights, by the module's own names.
        source: Where they come from, for the error.
        optional: Regular expressions; a name that one of them is found in may
            be missing in the state dict. Shapes have to agree all the same.
        surplus: Regular expressions of names that only the state dict may have.

    Returns:
        The optional names that were missing.

    Raises:
        CheckpointMismatchError: Names are missing or left over, or shapes
            differ; lists the first of each with expected and got.
    """
    expected = {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    shapes = {
        name: tuple(value.shape)
        if isinstance(value, torch.Tensor)
        else type(value).__name__
        for name, value in state_dict.items()
        if name in expected
    }
    misfits = {name: shape for name, shape in shapes.items() if shape != expected[name]}
    # torch's own loading runs each module's upgrades of older names, which a
    # comparison of names alone would report as wrong.
    try:
        keys = module.load_state_dict(
            {k: v for k, v in state_dict.items() if k not in misfits}, strict=False
        )
    except RuntimeError as error:
        raise CheckpointMismatchError(
            f'{source} does not fit {type(module).__name__}: {error}'
        ) from error
    required = _required(keys.missing_keys, optional)
    mismatch = Mismatch(
        missing=[
            name
            for name in required
            if name not in misfits and 'num_batches_tracked' not in name
        ],
        unexpected=_required(keys.unexpected_keys, surplus),
        shapes=[(name, expected[name], got) for name, got in misfits.items()],
    )
    if mismatch:
        raise CheckpointMismatchError(
            f'{source} does not fit {type(module).__name__}.\n{mismatch}\nUse '
            'the config that the checkpoint was trained with, or a checkpoint '
            'of this config.'
        )
    _check_shared(module, state_dict, source)
    return [name for name in keys.missing_keys if name not in required]


def weights_of(checkpoint: Any, source: str) -> Mapping[str, torch.Tensor]:
    """The state dict in a checkpoint.

    Args:
        checkpoint: What the file holds: a state dict, by itself or as
            `'state_dict'`.
        source: Where it comes from, for the error.

    Returns:
        The weights by name.

    Raises:
        DamagedFileError: It holds something else.
    """
    if isinstance(checkpoint, Mapping):
        checkpoint = checkpoint.get('state_dict', checkpoint)
    if not isinstance(checkpoint, Mapping):
        raise DamagedFileError(
            f'{source}: expected a dict of weights, got {type(checkpoint).__name__}.'
        )
    return checkpoint


def note_absent(source: str, names: Sequence[str]) -> None:
    """Says in the log which weights a checkpoint did not have.

    Args:
        source: Where the weights came from.
        names: The weights that it lacks; nothing is said of none.
    """
    if names:
        print_log(
            f'{source} lacks {len(names)} weights, such as {min(names)}, '
            'which stay as the model starts them.',
            'current',
            logging.WARNING,
        )


def _check_shared(
    module: torch.nn.Module, state_dict: Mapping[str, torch.Tensor], source: str
) -> None:
    """Names of one parameter must not have values of their own."""
    first = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        other = first.setdefault(value, name)
        if (
            name != other
            and name in state_dict
            and other in state_dict
            and not torch.equal(state_dict[name], state_dict[other])
        ):
            raise CheckpointMismatchError(
                f'{source}: {name} and {other} are one shared parameter of '
                f'{type(module).__name__}: expected equal weights, got '
                'different ones.'
            )


def _required(names: Sequence[str], optional: Sequence[str]) -> list[str]:
    return [n for n in names if not any(re.search(p, n) for p in optional)]


def load_backbone(
    module: torch.nn.Module,
    init_cfg: Mapping[str, Any],
    optional: Sequence[str] = (),
    surplus: Sequence[str] = (),
) -> None:
    """Starts a module from `init_cfg=dict(type='Pretrained', ...)`, strictly.

    mmengine's own initialiser only logs what it could not load.

    Args:
        module: Takes the weights.
        init_cfg: `checkpoint`, a path or address; `prefix`, the part of the
            checkpoint to take, such as `'backbone.'` (default all of it);
            `map_location` (default `'cpu'`).
        optional: Regular expressions for names that the checkpoint may lack,
            such as adaptors; the log says which it did.
        surplus: Regular expressions of names that only the checkpoint may have.

    Raises:
        InputError: The file or the prefix is missing.
        CheckpointMismatchError: Names or shapes do not fit.
    """
    source = init_cfg['checkpoint']
    checkpoint = CheckpointLoader.load_checkpoint(
        source, init_cfg.get('map_location', 'cpu'), logger='current'
    )
    state_dict = weights_of(checkpoint, source)
    prefix = init_cfg.get('prefix')
    if prefix:
        state_dict = _below(state_dict, prefix.rstrip('.') + '.', source)
    try:
        absent = load_strict(module, state_dict, source, optional, surplus)
    except CheckpointMismatchError as error:
        hint = merging_hint(checkpoint) or _prefix_hint(
            module, state_dict, prefix or ''
        )
        raise CheckpointMismatchError(f'{error}{hint}') from error
    note_absent(source, absent)
    if hasattr(module, '_params_init_info'):
        update_init_info(module, init_info=f'Pretrained: loaded from {source}')


def _below(
    state_dict: Mapping[str, torch.Tensor], prefix: str, source: str
) -> dict[str, torch.Tensor]:
    below = {
        name[len(prefix) :]: value
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
    if not below:
        roots = sorted({name.split('.')[0] + '.' for name in state_dict})
        published = (
            '. Published weights are converted by tools/convert_checkpoint.py'
            if 'model' in state_dict
            else ''
        )
        raise InputError(
            f"{source} has nothing under prefix '{prefix}'; its names begin "
            f'with {", ".join(roots[:SHOWN])}{published}'
        )
    return below


def merging_hint(checkpoint: Any) -> str:
    """What to do with a checkpoint of what was tuned alone.

    Args:
        checkpoint: What the file holds.

    Returns:
        A sentence on a line of its own; empty for any other checkpoint.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping) or NOTED not in meta:
        return ''
    return (
        '\nIt holds what was tuned without its base: make it whole by '
        'tools/merge_adaptors.py.'
    )


def _prefix_hint(
    module: torch.nn.Module, state_dict: Mapping[str, Any], given: str
) -> str:
    """A sentence on the prefix that would have fitted, if there is one."""
    first = next(iter(module.state_dict()), None)
    for name in state_dict:
        if first and name != first and name.endswith('.' + first):
            prefix = given + name[: -len(first)]
            return f"\nIts names suggest init_cfg=dict(prefix='{prefix}', ...)."
    return ''


def check_resumable(path: str) -> None:
    """Checks that a training can go on from a checkpoint.

    Args:
        path: Path of the file.

    Raises:
        DamagedFileError: It is truncated, no checkpoint, or of weights alone.
    """
    content = peek(path)
    lacking = [key for key in RESUMED if key not in content]
    if lacking:
        raise DamagedFileError(
            f'{path} cannot be resumed from: it has no {" and no ".join(lacking)}.'
        )


def find_resumable(work_dir: str) -> str | None:
    """The newest checkpoint in a folder that is whole.

    A truncated one is named in the log and skipped.

    Args:
        work_dir: The folder of the run to resume.

    Returns:
        Its path, or None if the folder has no checkpoint yet.

    Raises:
        InputError: There are checkpoints, and all of them are damaged.
    """
    damaged = []
    for path in _newest_first(work_dir):
        try:
            check_resumable(path)
            return path
        except DamagedFileError as error:
            damaged.append(str(error))
        print_log(f'{damaged[-1]} Skipped.', 'current', logging.WARNING)
    if damaged:
        raise InputError(
            'No checkpoint to resume from is whole:\n  ' + '\n  '.join(damaged)
        )
    return None


def _newest_first(work_dir: str) -> list[str]:
    """The run's checkpoints: the recorded last one, then those before it."""
    last = _recorded_last(work_dir)
    stem, limit = _numbered(last) if last else ('', None)
    numbered = {}
    for name in os.listdir(work_dir) if os.path.isdir(work_dir) else ():
        its_stem, number = _numbered(name)
        if number is None or (limit is not None and number >= limit):
            continue
        if its_stem == stem if last else its_stem in ('epoch_', 'iter_'):
            numbered[number] = os.path.join(work_dir, name)
    older = [numbered[n] for n in sorted(numbered, reverse=True)]
    return [last, *older] if last else older


def _recorded_last(work_dir: str) -> str | None:
    record = os.path.join(work_dir, 'last_checkpoint')
    if not os.path.isfile(record):
        return None
    with open(record) as file:
        path = file.read().strip()
    # A folder that was copied or moved still records the old place.
    here = os.path.join(work_dir, os.path.basename(path))
    return next((p for p in (here, path) if os.path.isfile(p)), None)


def _numbered(path: str) -> tuple[str, int | None]:
    match = re.fullmatch(r'(.*?)(\d+)\.pth', os.path.basename(path))
    return (match.group(1), int(match.group(2))) if match else ('', None)
