# SPDX-License-Identifier: Apache-2.0
"""Adaptor-S: 2-D locality for the output of a scan, at several scales."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.ops import dilated_depthwise

from ..arguments import check_number, integers_of
from .plain_layer import is_plain

MOST_DILATIONS = 16  # limit of the op


class AdaptorS(nn.Module):
    """Adds depthwise convolutions with several dilations to a map.

    .. code-block:: text

        y = y + sum_r alpha_r DWConv3x3_r(y)        r the dilation

    Args:
        channels: Channels of the map, D.
        dilations: Dilations r. A single one is the single-scale ablation.
        alpha_init: Initial value of `alpha`, for each dilation and channel. With 0,
            the default, the model is unchanged bit for bit.

    Raises:
        ValueError: There is no dilation or more than 16, one is not positive, or
            `alpha_init` is not finite.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-S. The kernel size, the
        dilations (1, 2, 3), no bias and the scale alpha are our choice.
    """

    undecayed = ('alpha',)
    """Parameters without weight decay."""

    def __init__(
        self,
        channels: int,
        dilations: Sequence[int] = (1, 2, 3),
        alpha_init: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= len(integers_of(dilations, 1) or ()) <= MOST_DILATIONS:
            raise ValueError(
                f'`dilations` must be 1 to {MOST_DILATIONS} positive integers, '
                f'got {dilations!r}'
            )
        check_number('alpha_init', alpha_init)
        self.channels = channels
        self.dilations = tuple(dilations)
        self.alpha_init = float(alpha_init)
        self.convs = nn.ModuleList(
            nn.Conv2d(
                channels,
                channels,
                3,
                padding=r,
                dilation=r,
                groups=channels,
                bias=False,
            )
            for r in self.dilations
        )
        self.alpha = nn.Parameter(
            torch.full((len(self.dilations), channels), self.alpha_init)
        )
        self.register_buffer('merged', None, persistent=False)

    def reset_parameters(self) -> None:
        """Initialize the scales; the kernels keep torch's initialization."""
        nn.init.constant_(self.alpha, self.alpha_init)

    def forward(self, y: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            y: Map, channels last, `(B, H, W, D)`.

        Returns:
            `(B, H, W, D)`.

        Raises:
            RuntimeError: After `switch_to_deploy`, the layer is in training mode, or a
                convolution was replaced, was parametrized or got hooks.
        """
        if self.merged is not None:
            if self.training:
                raise RuntimeError(
                    'AdaptorS cannot be trained after switch_to_deploy(): '
                    'call switch_to_train() first'
                )
            self._check_mergeable()
            maps = y.permute(0, 3, 1, 2)  # (B, D, H, W), a channels_last view
            return F.conv2d(
                maps, self.merged, padding=max(self.dilations), groups=len(self.merged)
            ).permute(0, 2, 3, 1)
        if not all(is_plain(conv, nn.Conv2d) for conv in self.convs):
            return self._call_convs(y)
        # Scaling the small kernels is cheaper than scaling the large maps.
        kernels = torch.stack([conv.weight for conv in self.convs]).squeeze(2)
        kernels = kernels * self.alpha[..., None, None]  # (R, D, 3, 3)
        # The op accumulates in this precision, also in a model cast to half.
        kernels = kernels.to(torch.promote_types(y.dtype, torch.float32))
        return dilated_depthwise(y, kernels, self.dilations)

    def _call_convs(self, y: Tensor) -> Tensor:
        """Apply the layer by calls of its convolutions."""
        maps = y.permute(0, 3, 1, 2)  # (B, D, H, W), a channels_last view
        for conv, alpha in zip(self.convs, self.alpha, strict=True):
            y = y + (alpha * conv(maps).permute(0, 2, 3, 1)).to(y.dtype)
        return y

    def _check_mergeable(self) -> None:
        """Raise RuntimeError if a merged kernel would ignore part of a convolution."""
        for i, conv in enumerate(self.convs):
            if not is_plain(conv, nn.Conv2d):
                raise RuntimeError(
                    f'`convs.{i}` of AdaptorS must be a plain Conv2d after '
                    'switch_to_deploy(), because the merged kernel ignores hooks, '
                    f'parametrizations and other modules, got {type(conv).__name__}: '
                    'remove them, or do not call switch_to_deploy()'
                )

    @torch.no_grad()
    def merged_kernel(self) -> Tensor:
        """Merge the convolutions and the input into one depthwise kernel.

        Returns:
            `(D, 1, 2 r + 1, 2 r + 1)` for the largest dilation r.

        Raises:
            RuntimeError: A convolution was replaced, is parametrized or has hooks.
        """
        self._check_mergeable()
        reach = max(self.dilations)
        weight = self.convs[0].weight
        kernel = weight.new_zeros(len(weight), 1, 2 * reach + 1, 2 * reach + 1)
        kernel[:, :, reach, reach] = 1  # the input itself
        for conv, alpha, r in zip(self.convs, self.alpha, self.dilations, strict=True):
            taps = slice(reach - r, reach + r + 1, r)
            kernel[:, :, taps, taps] += conv.weight * alpha[:, None, None, None]
        return kernel

    def switch_to_deploy(self) -> None:
        """Use the merged kernel from now on, for inference only.

        The kernel is made once, here, and is not saved. Until `switch_to_train`,
        training and loading weights are errors, so that the kernel never differs from
        the weights.
        """
        self.merged = self.merged_kernel()

    def switch_to_train(self) -> None:
        """Use the separate kernels again."""
        self.merged = None

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load weights; an error after `switch_to_deploy`."""
        if self.merged is not None:
            raise RuntimeError(
                f'{prefix.rstrip(".") or "AdaptorS"} cannot load weights after '
                'switch_to_deploy(), because its merged kernel would not change: '
                'call switch_to_train(), load, and call switch_to_deploy() again'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
