# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that hold only what was tuned, without the frozen base."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmadaptor.errors import CheckpointMismatchError, DamagedFileError

from .loading import meta_of, weights_of, without

ADAPTOR_NAMES = {'temporal', 'spatial'}
NOTE = 'tuning'  # the key in the meta of such a checkpoint


def count_trainable(model: nn.Module) -> tuple[int, int]:
    """Count parameters; a shared parameter counts once.

    Args:
        model: Any module.

    Returns:
        The number of trainable parameters, and of all parameters.
    """
    parameters = list(model.parameters())
    return (
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters),
    )


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the frozen weights of a model: the base of its tuned weights.

    Args:
        model: Any module.

    Returns:
        By name the frozen parameters, and the persistent buffers of modules
        whose own parameters are all frozen. Adaptors are never part of a base,
        frozen or not.
    """
    state = {}
    for prefix, module in model.named_modules():
        if not ADAPTOR_NAMES.isdisjoint(prefix.split('.')):
            continue
        own = dict(module.named_parameters(recurse=False))
        base = {n: p.detach() for n, p in own.items() if not p.requires_grad}
        if own and len(base) == len(own):
            buffers = dict(module.named_buffers(recurse=False))
            for name in buffers.keys() - module._non_persistent_buffers_set:
                base[name] = buffers[name]
        state |= {f'{prefix}.{name}'.lstrip('.'): base[name] for name in base}
    return state


def digest(state: Mapping[str, Tensor]) -> str:
    """Hash weights: names, types, shapes and all bits.

    Args:
        state: The weights by name, on any device.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def take_base_out(model: nn.Module, checkpoint: dict) -> None:
    """Remove the base from a checkpoint before it is saved.

    Args:
        model: The model that is saved.
        checkpoint: Its checkpoint, with `state_dict` and `meta`. Changed in
            place: `meta` gets the digests of both parts.
    """
    base = base_state(model)
    tuned = without(checkpoint['state_dict'], base)
    checkpoint['state_dict'] = tuned
    checkpoint['meta'][NOTE] = dict(base=digest(base), tuned=digest(tuned))


def holds_adaptors_only(checkpoint: Mapping) -> bool:
    """Return whether a checkpoint was saved without its base."""
    return NOTE in meta_of(checkpoint)


def complete(model: nn.Module, checkpoint: dict, source: str) -> None:
    """Add the base to a checkpoint that was saved without it.

    Args:
        model: Holds the base, or loads it now through its `init_weights` (a
            test does not call that).
        checkpoint: The content of the file, changed in place. A checkpoint that
            has its base is left as it is.
        source: Where it comes from, for error messages.

    Raises:
        DamagedFileError: The tuned weights are not those that were saved.
        CheckpointMismatchError: The model has another base.
    """
    if not holds_adaptors_only(checkpoint):
        return
    note = checkpoint['meta'][NOTE]
    if not isinstance(note, dict) or set(note) != {'base', 'tuned'}:
        raise DamagedFileError(
            f'{source}: expected the digests of `base` and '
            f'`tuned` in meta[{NOTE!r}], got {note!r}.'
        )
    tuned = weights_of(checkpoint, source)
    if digest(tuned) != note['tuned']:
        raise DamagedFileError(f'{source} was changed after it was saved.')
    if not getattr(model, 'is_init', False):
        model.init_weights()
    base = base_state(model)
    if both := base.keys() & tuned.keys():
        raise CheckpointMismatchError(
            f'{source} was tuned in another way: it trained {len(both)} weights '
            f'that the config freezes, such as {min(both)}. `trainable`, '
            '`adaptors` and `frozen_stages` of the backbone decide what trains.'
        )
    if digest(base) != note['base']:
        raise CheckpointMismatchError(
            f'{source} was tuned on another base, or other parts of it were '
            f'frozen: expected the digest {note["base"]}, got {digest(base)} '
            f"for {len(base)} frozen weights. init_cfg=dict(type='Pretrained', "
            '...) names the file of the base; `trainable` and `frozen_stages` '
            'of the backbone decide what is frozen.'
        )
    whole = OrderedDict({**base, **tuned})
    # The base has the versions of the model's modules, the rest those of the file.
    saved = getattr(tuned, '_metadata', None) or {}
    modules = {name.rpartition('.')[0] for name in tuned}
    whole._metadata = {
        **getattr(model.state_dict(), '_metadata', {}),
        **{name: saved[name] for name in modules & saved.keys()},
    }
    checkpoint['state_dict'] = whole
    del checkpoint['meta'][NOTE]
