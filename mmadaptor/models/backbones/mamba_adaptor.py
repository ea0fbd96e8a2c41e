# SPDX-License-Identifier: Apache-2.0
"""Mamba-Adaptor: VMamba with adaptors in its blocks."""

from collections.abc import Mapping
from typing import Any

from .vmamba import VMamba


class MambaAdaptor(VMamba):
    """The Mamba-Adaptor backbone.

    Args:
        arch: `'b0'`, `'b1'`, `'b2'`, or a dict as for :class:`VMamba`.
        adaptors: As for :class:`VMamba`. Default: both adaptors with their default
            arguments in every block. A dict replaces the default as a whole: an
            adaptor that it does not name is absent.
        kwargs: The other arguments of :class:`VMamba`.

    Raises:
        ValueError: As in :class:`VMamba`.
        TypeError: A keyword is unknown.

    Example:
        >>> import torch
        >>> from mmadaptor.models import MambaAdaptor
        >>> backbone = MambaAdaptor('b0', out_indices=(1, 3))
        >>> [tuple(map.shape) for map in backbone(torch.rand(1, 3, 64, 96))]
        [(1, 64, 8, 12), (1, 256, 2, 3)]

    Source:
        Mamba-Adaptor (arXiv 2505.12685). The paper gives parameters and multiply-adds
        of b1 and b2; dims and depths that meet them are our choice. b0 is ours.
    """

    arch_settings: Mapping[str, dict] = {
        'b0': dict(embed_dims=32, depths=(1, 1, 2, 1), d_state=1, ssm_ratio=1.0),
        'b1': dict(embed_dims=48, depths=(2, 2, 8, 2), d_state=1, ssm_ratio=1.0),
        'b2': dict(embed_dims=96, depths=(2, 2, 9, 2), d_state=1, ssm_ratio=1.0),
    }

    def __init__(
        self, arch: str | dict = 'b2', adaptors: dict | None = None, **kwargs: Any
    ) -> None:
        if adaptors is None:
            adaptors = dict(temporal=dict(), spatial=dict())
        super().__init__(arch, adaptors=adaptors, **kwargs)
