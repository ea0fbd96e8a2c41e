# SPDX-License-Identifier: Apache-2.0
"""SS2D: the token mixer of VMamba, with optional adaptors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor.ops import cross_selective_scan

from ..arguments import scaled_channels
from .adaptor_s import AdaptorS
from .adaptor_t import AdaptorT
from .last_reset import LastReset
from .linear import apply_linear
from .norm import build_norm
from .op import Op
from .scan_init import DIRECTIONS, at_least_float32, init_balanced, init_scan_parameters

SCAN_INITS = ('vmamba', 'balanced')


class SS2D(nn.Module):
    """A selective scan of a map in four directions, between two projections.

    Projects, convolves depthwise, predicts step size and coefficients of the scan
    from each pixel, scans rows and columns in both directions, normalizes and
    projects. All maps are channels last.

    The projection to the step size, `dt_weight`, is a parameter with one entry per
    direction. To change it, parametrize it (`torch.nn.utils.parametrize`).

    Args:
        channels: Channels of input and output, C.
        d_state: States per scanned channel, N.
        ssm_ratio: Ratio of scanned channels D to C.
        dt_rank: Rank of the projection of the step size, R. Default: C / 16,
            rounded up.
        norm_cfg: Config of the normalization of the output of the scan.
        temporal: Arguments of :class:`AdaptorT`. Default: no Adaptor-T.
        spatial: Arguments of :class:`AdaptorS`. Default: no Adaptor-S.
        scan_init: `'vmamba'`, or `'balanced'`, with which the output of the scan is
            as large as the skip connection from the first step.

    Raises:
        ValueError: `scan_init` is unknown.

    Source:
        VMamba (arXiv 2401.10166), SS2D without gate. Positions of the adaptors:
        Mamba-Adaptor (arXiv 2505.12685). `'balanced'` is our choice, see
        `init_balanced`.
    """

    undecayed = ('dt_weight', 'dt_bias', 'A_log', 'D')
    """Parameters without weight decay."""

    def __init__(
        self,
        channels: int,
        d_state: int = 1,
        ssm_ratio: float = 1.0,
        dt_rank: int | None = None,
        norm_cfg: dict | None = None,
        temporal: dict | None = None,
        spatial: dict | None = None,
        scan_init: str = 'vmamba',
    ) -> None:
        super().__init__()
        if scan_init not in SCAN_INITS:
            raise ValueError(
                f'`scan_init` must be one of {list(SCAN_INITS)}, got {scan_init!r}'
            )
        self.scan_init = scan_init
        inner = scaled_channels('ssm_ratio', ssm_ratio, channels)
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(channels / 16)
        per_direction = self.dt_rank + 2 * d_state
        self.in_proj = nn.Linear(channels, inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.x_proj = nn.Linear(inner, DIRECTIONS * per_direction, bias=False)
        self.dt_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, self.dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_log = nn.Parameter(torch.empty(DIRECTIONS, inner, d_state))
        self.D = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.scan = Op(cross_selective_scan)
        self.temporal = self.spatial = None
        if temporal is not None:
            self.temporal = AdaptorT(inner, **temporal)
        if spatial is not None:
            self.spatial = AdaptorS(inner, **spatial)
        self.norm = build_norm(norm_cfg, inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self.last_reset = LastReset(self.reset_parameters)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize all parameters according to `scan_init`."""
        for projection in (self.in_proj, self.out_proj):
            nn.init.normal_(projection.weight, std=0.02)
        # The projection to step size, B and C keeps torch's default for linear layers.
        self.x_proj.reset_parameters()
        init_scan_parameters(self)
        if self.scan_init == 'balanced':
            init_balanced(self)

    def scan_arguments(self, x: Tensor) -> dict[str, Tensor]:
        """Predict the arguments of the scan from a map `(B, H, W, D)`.

        Returns:
            The arguments of :func:`mmadaptor.ops.cross_selective_scan`.
        """
        predicted = apply_linear(self.x_proj, x).unflatten(-1, (DIRECTIONS, -1))
        step, B, C = predicted.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        step = step.flatten(0, 2).transpose(0, 1)  # (4, B H W, R)
        delta = torch.bmm(step, self.dt_weight.transpose(1, 2))
        delta = delta.transpose(0, 1).unflatten(0, x.shape[:3])
        return dict(
            x=x,
            delta=delta,
            A=-at_least_float32(self.A_log).exp(),
            B=B,
            C=C,
            D=at_least_float32(self.D),
            delta_bias=at_least_float32(self.dt_bias),
            delta_softplus=True,
        )

    def scan_map(self, x: Tensor) -> Tensor:
        """Scan a map `(B, H, W, D)`, with memory if there is an Adaptor-T."""
        arguments = self.scan_arguments(x)
        if self.temporal is None:
            return self.scan(**arguments)
        y, states = self.scan(**arguments, return_states=True)
        # In the dtype of y: a sum over the directions may exceed the largest float16.
        return y + self.temporal(states, arguments['C'].to(y.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the pixels of a map.

        Args:
            x: Map, channels last, `(B, H, W, C)`.

        Returns:
            `(B, H, W, C)`.
        """
        x = apply_linear(self.in_proj, x)
        maps = x.permute(0, 3, 1, 2)  # (B, D, H, W), a channels_last view
        x = F.silu(self.conv(maps)).permute(0, 2, 3, 1)
        y = self.scan_map(x)
        if self.spatial is not None:
            y = self.spatial(y)
        return apply_linear(self.out_proj, self.norm(y))
