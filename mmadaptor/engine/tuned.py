"""What a tuned model is made of: what trained, and the base it stands on."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def count_trainable(model: nn.Module) -> tuple[int, int]:
    """Count parameters; shared ones count once.

    Args:
        model: Any module.

    Returns:
        The numbers that train, and all of them.
    """
    parameters = list(model.parameters())
    return (sum(p.numel() for p in parameters if p.requires_grad),
            sum(p.numel() for p in parameters))


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """What tuning leaves as it is: the base that a tuned model stands on.

    Args:
        model: Any module.

    Returns:
        By name the frozen parameters, and the buffers that are saved of
        modules whose own parameters are all frozen.
    """
    state = {}
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        state.update((f'{prefix}.{name}'.lstrip('.'), value.detach())
                     for name, value in own.items() if not value.requires_grad)
        if own and not any(p.requires_grad for p in own.values()):
            state.update(
                (f'{prefix}.{name}'.lstrip('.'), value)
                for name, value in module.named_buffers(recurse=False)
                if name not in module._non_persistent_buffers_set)
    return state


def identity(state: Mapping[str, Tensor]) -> str:
    """A fingerprint of weights: names, types, shapes and every bit.

    Args:
        state: The weights by name, in any order, on any device.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
