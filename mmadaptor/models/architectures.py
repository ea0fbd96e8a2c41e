# SPDX-License-Identifier: Apache-2.0
"""Models by the name of their architecture, which is the same in every library."""

import difflib
import os
from collections.abc import Sequence
from typing import Any

from .backbones import MambaAdaptor, Vim, VMamba
from .backbones.base import AdaptableBackbone
from .classifier import Classifier

ARCHITECTURES: dict[str, tuple[type[AdaptableBackbone], str]] = {
    f'{prefix}_{arch}': (kind, arch)
    for prefix, kind in dict(mamba_adaptor=MambaAdaptor, vmamba=VMamba, vim=Vim).items()
    for arch in kind.arch_settings
}
"""Names, with the class and its `arch`."""


def create_backbone(
    name: str, pretrained: str | os.PathLike | None = None, **arguments: Any
) -> AdaptableBackbone:
    """Create a backbone by name.

    Args:
        name: One of `ARCHITECTURES`, such as `'mamba_adaptor_b2'`.
        pretrained: A checkpoint with its weights, as .pth or .safetensors: of this
            backbone, of a model with it, or of the published VMamba or Vim. It must
            hold every weight, except adaptors and output norms.
        arguments: Further arguments of :class:`MambaAdaptor`, :class:`VMamba` or
            :class:`Vim`.

    Raises:
        ValueError: The name is unknown, or an argument is wrong.
        TypeError: A keyword is unknown.
        InputError: The file is missing, damaged, or of another model.

    Example:
        >>> from mmadaptor.models import create_backbone
        >>> backbone = create_backbone('mamba_adaptor_b0', drop_path_rate=0.1)
        >>> backbone.out_channels, backbone.strides
        ((32, 64, 128, 256), (4, 8, 16, 32))
    """
    kind, arch = find_architecture(name)
    backbone = kind(arch, **arguments)
    backbone.init_weights()
    if pretrained is not None:
        backbone.load_pretrained(dict(checkpoint=pretrained))
    return backbone


def create_classifier(
    name: str,
    num_classes: int = 1000,
    pretrained: str | os.PathLike | None = None,
    skip: Sequence[str] = (),
    drop_rate: float = 0.0,
    **arguments: Any,
) -> Classifier:
    r"""Create a classifier by name.

    Args:
        name: One of `ARCHITECTURES`.
        num_classes: Number of classes.
        pretrained: A checkpoint of a classifier: by mmpretrain, timm or this function,
            or a published one. It must hold every weight, except adaptors.
        skip: Regular expressions of names that keep their initial values, such as
            `[r'^head\.']` for other classes.
        drop_rate: Dropout before the last layer.
        arguments: Further arguments of the backbone.

    Raises:
        ValueError: The name is unknown, or an argument is wrong.
        TypeError: A keyword is unknown.
        InputError: The file is missing, damaged, or of another model.

    Example:
        >>> import torch
        >>> from mmadaptor.models import create_classifier
        >>> model = create_classifier('mamba_adaptor_b0', num_classes=10)
        >>> model(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """
    kind, arch = find_architecture(name)
    backbone = kind(arch, **{'out_indices': (-1,), **arguments})
    backbone.init_weights()
    model = Classifier(backbone, num_classes, drop_rate)
    if pretrained is not None:
        model.load_pretrained(pretrained, skip)
    return model


def find_architecture(name: str) -> tuple[type[AdaptableBackbone], str]:
    """Return the class and `arch` of a name.

    Raises:
        ValueError: It is unknown; the message has the nearest.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(str(name), ARCHITECTURES, 1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(
        f'there is no architecture {name!r}: expected one of '
        f'{", ".join(ARCHITECTURES)}{hint}'
    )
