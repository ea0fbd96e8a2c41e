# SPDX-License-Identifier: Apache-2.0
"""What a tuned model is made of: what trained, and the base it stands on."""

import hashlib
import logging
from collections.abc import Mapping

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmadaptor.errors import CheckpointMismatchError, DamagedFileError
from mmadaptor.registry import MODELS

from .strict import NOTED, load_strict, weights_of

ADAPTORS = {'temporal', 'spatial'}


def count_trainable(model: nn.Module) -> tuple[int, int]:
    """Count parameters; shared ones count once.

    Args:
        model: Any module.

    Returns:
        The numbers that train, and all of them.
    """
    parameters = list(model.parameters())
    return (
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters),
    )


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """What tuning leaves as it is: the base that a tuned model stands on.

    Args:
        model: Any module.

    Returns:
        By name the frozen parameters, and the buffers that are saved of
        modules whose own parameters are all frozen; no adaptors, which no
        base has, frozen or not.
    """
    state = {}
    for prefix, module in model.named_modules():
        if not ADAPTORS.isdisjoint(prefix.split('.')):
            continue
        own = dict(module.named_parameters(recurse=False))
        state.update(
            (f'{prefix}.{name}'.lstrip('.'), value.detach())
            for name, value in own.items()
            if not value.requires_grad
        )
        if own and not any(p.requires_grad for p in own.values()):
            state.update(
                (f'{prefix}.{name}'.lstrip('.'), value)
                for name, value in module.named_buffers(recurse=False)
                if name not in module._non_persistent_buffers_set
            )
    return state


def fingerprints(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Fingerprints of weights: type, shape and every bit.

    Args:
        state: The weights by name, on any device.

    Returns:
        For each 16 hexadecimal digits of a SHA-256.
    """
    found = {}
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        digest = hashlib.sha256(f'{value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
        found[name] = digest.hexdigest()[:16]
    return found


def complete(model: nn.Module, checkpoint: dict, source: str) -> None:
    """Put the base into a checkpoint of what was tuned.

    Args:
        model: Stands on its base, or loads it now: a test leaves that out.
        checkpoint: What the file holds, which is changed. One that was not
            saved by AdaptorCheckpointHook is left as it is.
        source: Where it comes from, for the errors.

    Raises:
        DamagedFileError: What was tuned is not what was saved.
        CheckpointMismatchError: The base is another one.
    """
    noted = (checkpoint.get('meta') or {}).get(NOTED)
    if noted is None:
        return
    if not isinstance(noted, dict) or not all(
        isinstance(noted.get(part), dict) for part in ('tuned', 'base')
    ):
        raise DamagedFileError(
            f'{source}: expected the fingerprints of what was tuned and of its '
            f'base in meta[{NOTED!r}], got {noted!r}.'
        )
    tuned = weights_of(checkpoint, source)
    if differs := _difference(noted['tuned'], fingerprints(tuned)):
        raise DamagedFileError(f'{source} was changed after it was saved: {differs}.')
    if not getattr(model, 'is_init', False):
        _load_base(model)
    base = base_state(model)
    _check_base(noted['base'], base, tuned, source)
    checkpoint['state_dict'] = {**base, **tuned}


def _check_base(
    expected: Mapping[str, str],
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    source: str,
) -> None:
    """Compares the base of a model with the one that was tuned."""
    for names, was, now in (
        (base.keys() & tuned.keys(), 'trained', 'freezes'),
        (expected.keys() - base.keys(), 'froze', 'trains or lacks'),
        (base.keys() - expected.keys() - tuned.keys(), 'lacked', 'freezes'),
    ):
        if names:
            raise CheckpointMismatchError(
                f'{source} was tuned in another way: it {was}, and the config '
                f'{now}, {len(names)} weights, such as {min(names)}. What '
                "trains is said by the backbone's `trainable`, `adaptors` and "
                '`frozen_stages`.'
            )
    if differs := _difference(expected, fingerprints(base)):
        raise CheckpointMismatchError(
            f'{source} was tuned on another base: {differs}. The base is what '
            "the config's init_cfg=dict(type='Pretrained', ...) loads."
        )


def _difference(expected: Mapping[str, str], got: Mapping[str, str]) -> str:
    """Of two sets of fingerprints; empty if they are equal."""
    differ = [
        name
        for name in sorted({*expected, *got})
        if expected.get(name) != got.get(name)
    ]
    if not differ:
        return ''
    first = differ[0]
    return (
        f'{len(differ)} of {len(expected)} weights differ, first {first}: '
        f'expected the fingerprint {expected.get(first)}, got '
        f'{got.get(first)}'
    )


def _load_base(model: nn.Module) -> None:
    """Starts a model without a line to the console for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def load_model(cfg: Config, path: str) -> nn.Module:
    """Builds a config's model and loads a checkpoint, strictly.

    Args:
        cfg: The config.
        path: The checkpoint; one of adaptors alone is completed with its base.

    Returns:
        The model.

    Raises:
        InputError: The checkpoint is missing, damaged, or of another model.
    """
    init_default_scope(cfg.get('default_scope', 'mmadaptor'))
    checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu')
    model = MODELS.build(cfg.model)
    complete(model, checkpoint, path)
    load_strict(model, weights_of(checkpoint, path), path)
    return model
