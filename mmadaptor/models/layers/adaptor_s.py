# SPDX-License-Identifier: Apache-2.0
"""Adaptor-S: 2-D locality for the scan's output, at several scales."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmadaptor.ops import dilated_depthwise

MOST_DILATIONS = 16  # of the op


class AdaptorS(BaseModule):
    """Depthwise convolutions of several dilations, added to their input.

    .. code-block:: text

        y = y + sum_r alpha_r DWConv3x3_r(y)        r the dilation

    Args:
        channels: Channels of the map, D.
        dilations: The dilations r; one of them is the single-scale ablation.
        alpha_init: What `alpha` starts at, for each dilation and channel. 0,
            the default, leaves the model around it as it is, bit for bit.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: If there is no dilation or more than 16, one is not
            positive, or `alpha_init` is not finite.

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
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if (
            not isinstance(dilations, Sequence)
            or not 1 <= len(dilations) <= MOST_DILATIONS
            or not all(isinstance(r, int) and r > 0 for r in dilations)
        ):
            raise ValueError(
                '`dilations` must be 1 to '
                f'{MOST_DILATIONS} positive whole numbers, got '
                f'{dilations}'
            )
        if not math.isfinite(alpha_init):
            raise ValueError(f'`alpha_init` must be a number, got {alpha_init}')
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
        """Start the scales; the kernels keep torch's own initialisation."""
        nn.init.constant_(self.alpha, self.alpha_init)

    def forward(self, y: Tensor) -> Tensor:
        """Add what the convolutions see.

        Args:
            y: A map, channels last, `(B, H, W, D)`.

        Returns:
            `(B, H, W, D)`.

        Raises:
            RuntimeError: In training mode after `switch_to_deploy`.
        """
        if self.merged is not None:
            if self.training:
                raise RuntimeError(
                    'AdaptorS is switched to deploy and cannot '
                    'be trained: call switch_to_train() first'
                )
            maps = y.permute(0, 3, 1, 2)  # (B, D, H, W), a channels_last view
            return F.conv2d(
                maps, self.merged, padding=max(self.dilations), groups=len(self.merged)
            ).permute(0, 2, 3, 1)
        # The scale goes into the small kernels rather than onto the large maps.
        kernels = torch.stack([conv.weight for conv in self.convs]).squeeze(2)
        kernels = kernels * self.alpha[..., None, None]  # (R, D, 3, 3)
        # As wide as the op's sums, also in a model cast to half precision.
        kernels = kernels.to(torch.promote_types(y.dtype, torch.float32))
        return dilated_depthwise(y, kernels, self.dilations)

    @torch.no_grad()
    def merged_kernel(self) -> Tensor:
        """The one depthwise kernel that does the same.

        Returns:
            `(D, 1, 2 r + 1, 2 r + 1)` for the largest dilation r.
        """
        reach = max(self.dilations)
        weight = self.convs[0].weight
        kernel = weight.new_zeros(len(weight), 1, 2 * reach + 1, 2 * reach + 1)
        kernel[:, :, reach, reach] = 1  # the input itself
        for conv, alpha, r in zip(self.convs, self.alpha, self.dilations, strict=True):
            taps = slice(reach - r, reach + r + 1, r)
            kernel[:, :, taps, taps] += conv.weight * alpha[:, None, None, None]
        return kernel

    def switch_to_deploy(self) -> None:
        """Convolve with the merged kernel from now on, for inference alone.

        The kernel is made here, once, and is not saved. So that it never
        differs from the weights, training and loading weights are refused
        until `switch_to_train`.
        """
        self.merged = self.merged_kernel()

    def switch_to_train(self) -> None:
        """Convolve with the separate kernels again."""
        self.merged = None

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if self.merged is not None:
            raise RuntimeError(
                f'{prefix.rstrip(".") or "AdaptorS"} is switched to deploy, '
                'where new weights would not reach its merged kernel: call '
                'switch_to_train(), load, and switch_to_deploy() again'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
