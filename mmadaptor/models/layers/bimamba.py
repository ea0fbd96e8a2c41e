# SPDX-License-Identifier: Apache-2.0
"""BiMamba: the token mixer of Vim, with optional adaptors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.ops import selective_scan
from mmadaptor.ops._dispatch import full_precision

from .adaptor_s import AdaptorS
from .adaptor_t import AdaptorT
from .class_token import insert_class_token, split_class_token
from .last_reset import LastReset
from .linear import apply_linear, linear
from .op import Op
from .scan_init import at_least_float32, init_scan_parameters

DIRECTIONS = 2


class BiMamba(nn.Module):
    """A selective scan of a sequence in both directions, between two projections.

    The sequence holds the patches of a map, row by row, with the class token in the
    middle. Projects to scanned channels and a gate, convolves causally, predicts step
    size and coefficients of the scan from each token, scans, and averages the two
    directions, which have their own weights.

    The projections `x_weight` and `dt_weight` are parameters with one entry per
    direction. To change them, parametrize them (`torch.nn.utils.parametrize`).

    The adaptors work on the map of patches, which does not include the class token.
    The class token gets the mean of the terms that they add to the patches.

    Args:
        channels: Channels of input and output, C.
        d_state: States per scanned channel, N.
        expand: Ratio of scanned channels D to C.
        d_conv: Width of the causal convolution.
        dt_rank: Rank of the projection of the step size, R. Default: C / 16,
            rounded up.
        temporal: Arguments of :class:`AdaptorT`. Default: no Adaptor-T.
        spatial: Arguments of :class:`AdaptorS`. Default: no Adaptor-S.

    Source:
        Vision Mamba (arXiv 2401.09417), bidirectional block. The adaptors in it are
        our choice. Adaptor-T gathers the outputs C . h of other tokens instead of
        their N states, which is N times less data.
    """

    undecayed = ('dt_weight', 'dt_bias', 'A_log', 'D')
    """Parameters without weight decay."""

    def __init__(
        self,
        channels: int,
        d_state: int = 16,
        expand: int = 2,
        d_conv: int = 4,
        dt_rank: int | None = None,
        temporal: dict | None = None,
        spatial: dict | None = None,
    ) -> None:
        super().__init__()
        inner = channels * expand
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        # The channels of the backward direction follow those of the forward direction.
        # The sequence is a map of one row, because 1-D convolutions are slower.
        self.conv = nn.Conv2d(
            DIRECTIONS * inner,
            DIRECTIONS * inner,
            (1, d_conv),
            groups=DIRECTIONS * inner,
            padding=(0, d_conv - 1),
        )
        self.x_weight = nn.Parameter(
            torch.empty(DIRECTIONS, self.dt_rank + 2 * d_state, inner)
        )
        self.dt_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, self.dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_log = nn.Parameter(torch.empty(DIRECTIONS, inner, d_state))
        self.D = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.scan = Op(selective_scan)
        self.temporal = self.spatial = None
        if temporal is not None:
            self.temporal = AdaptorT(inner, **temporal)
        if spatial is not None:
            self.spatial = AdaptorS(inner, **spatial)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self.last_reset = LastReset(self.reset_parameters)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize all parameters as Vim does."""
        for projection in (self.in_proj, self.out_proj):
            nn.init.normal_(projection.weight, std=0.02)
        nn.init.normal_(self.x_weight, std=0.02)
        init_scan_parameters(self)

    def scan_arguments(self, u: Tensor) -> dict[str, Tensor]:
        """Predict the arguments of the scan from the sequence.

        Args:
            u: The sequence and its reverse, `(B, L, 2 D)`.

        Returns:
            The arguments of :func:`mmadaptor.ops.selective_scan`, with two
            groups of channels, one for each direction.
        """
        predicted = torch.stack(
            [
                linear(half, weight)
                for half, weight in zip(u.chunk(2, dim=-1), self.x_weight, strict=True)
            ],
            dim=1,
        )  # (B, 2, L, R + 2 N)
        step, B, C = predicted.transpose(2, 3).split(
            [self.dt_rank, self.d_state, self.d_state], dim=2
        )
        delta = torch.einsum('bkrl,kdr->blkd', step, self.dt_weight)
        return dict(
            u=u.transpose(1, 2),
            delta=delta.flatten(2).transpose(1, 2),
            A=-at_least_float32(self.A_log.flatten(0, 1)).exp(),
            B=B,
            C=C,
            D=at_least_float32(self.D.flatten()),
            delta_bias=at_least_float32(self.dt_bias.flatten()),
            delta_softplus=True,
        )

    def both_ways(self, x: Tensor) -> Tensor:
        """Convolve the sequence and its reverse.

        Args:
            x: The sequence, `(B, L, D)`.

        Returns:
            `(B, L, 2 D)`; the second half of the channels is reversed.
        """
        u = torch.cat([x, x.flip(1)], dim=-1)
        row = u.transpose(1, 2).unsqueeze(2)  # (B, 2 D, 1, L)
        convolved = self.conv(row)[..., : x.shape[1]]
        return F.silu(convolved).squeeze(2).transpose(1, 2)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Mix the tokens of a sequence.

        Args:
            x: The sequence, `(B, height * width + 1, C)`, the class token at
                index `height * width // 2`.
            height: Rows of patches.
            width: Columns of patches.

        Returns:
            `(B, L, C)`.
        """
        x, gate = apply_linear(self.in_proj, x).chunk(2, dim=-1)  # (B, L, D) each
        arguments = self.scan_arguments(self.both_ways(x))
        if self.temporal is None:
            scanned = self.scan(**arguments)
        else:
            # The memory reads the output minus the skip connection; in half
            # precision that difference would be rounding noise.
            for name in ('u', 'delta', 'B', 'C'):
                arguments[name] = at_least_float32(arguments[name])
            with full_precision(x.device):
                scanned = self.scan(**arguments)
        forward, backward = in_order(scanned.to(gate.dtype))
        y = forward + backward
        if self.temporal is not None or self.spatial is not None:
            y = self.adapt(y, scanned, arguments, height, width)
        return apply_linear(self.out_proj, y / DIRECTIONS * F.silu(gate))

    def adapt(
        self,
        y: Tensor,
        scanned: Tensor,
        arguments: dict[str, Tensor],
        height: int,
        width: int,
    ) -> Tensor:
        """Apply the adaptors to the map of patches.

        Args:
            y: The sum over the directions, `(B, L, D)`.
            scanned: Output of the scan, `(B, 2 D, L)`.
            arguments: Arguments of the scan.
            height: Rows of patches.
            width: Columns of patches.

        Returns:
            `(B, L, D)`.
        """
        patches, class_token = split_class_token(y)
        before = after = patches.unflatten(1, (height, width))  # (B, H, W, D)
        if self.temporal is not None:
            readouts = self.readouts(scanned, arguments, height, width)
            after = after + self.temporal(readouts).to(after.dtype)
        if self.spatial is not None:
            after = self.spatial(after)
        patches = after.flatten(1, 2)  # (B, H W, D)
        gained = (after - before).flatten(1, 2).mean(dim=1, keepdim=True)
        return insert_class_token(patches, class_token + gained)

    def readouts(
        self, scanned: Tensor, arguments: dict[str, Tensor], height: int, width: int
    ) -> Tensor:
        """Return the output of the scan for the patches, without the skip connection.

        Args:
            scanned: Output of the scan, `(B, 2 D, L)`.
            arguments: Arguments of the scan.
            height: Rows of patches.
            width: Columns of patches.

        Returns:
            `(B, H, W, 2, D, 1)`.
        """
        skip = arguments['D'][:, None] * arguments['u']
        said = torch.stack(in_order(scanned - skip), dim=2)
        patches, _ = split_class_token(said)
        return patches.unflatten(1, (height, width)).unsqueeze(-1)


def in_order(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return both directions in the order of the sequence.

    Args:
        directions: `(B, 2 D, L)`, the second half reversed.

    Returns:
        The forward and the backward direction, `(B, L, D)` each.
    """
    forward, backward = directions.transpose(1, 2).chunk(2, dim=-1)
    return forward, backward.flip(1)
