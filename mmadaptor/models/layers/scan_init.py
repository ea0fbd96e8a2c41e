# SPDX-License-Identifier: Apache-2.0
"""Initial values of a scan's parameters."""

import math

import torch
from mmengine.model import trunc_normal_init
from torch import Tensor, nn

DIRECTIONS = 4


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value`.

    Args:
        value: Positive numbers.

    Returns:
        A tensor of the same shape.
    """
    return value + torch.log(-torch.expm1(-value))


def at_least_float32(parameter: Tensor) -> Tensor:
    """The scan's own parameters stay wide in a model cast to half precision.

    Args:
        parameter: Any floating tensor.

    Returns:
        The same in float64 if it is float64, else in float32.
    """
    return parameter if parameter.dtype == torch.float64 else parameter.float()


@torch.no_grad()
def init_scan_parameters(mixer: nn.Module) -> None:
    """Initialise a scan's own parameters: steps log-uniform from 0.001 to 0.1.

    Args:
        mixer: Its `dt_weight` is `(K, D, R)`, `dt_bias` and `D` are `(K, D)`,
            `A_log` is `(K, D, N)`, for K directions.

    Source:
        Mamba (arXiv 2312.00752), as VMamba and Vim use it.
    """
    bound = mixer.dt_weight.shape[-1] ** -0.5
    nn.init.uniform_(mixer.dt_weight, -bound, bound)
    low, high = math.log(1e-3), math.log(1e-1)
    step = torch.empty_like(mixer.dt_bias).uniform_(low, high).exp()
    mixer.dt_bias.copy_(inverse_softplus(step.clamp(min=1e-4)))
    rates = torch.arange(1.0, mixer.A_log.shape[-1] + 1)
    mixer.A_log.copy_(rates.log().expand_as(mixer.A_log))
    nn.init.ones_(mixer.D)


@torch.no_grad()
def init_balanced(mixer: nn.Module) -> None:
    """Draw a mixer's layers so that its scan takes part at once.

    The scan's part of the output is a product of B, C and the input, which are
    all small under VMamba's initialisation: one 10000th of what `D` lets pass,
    and after 750 steps of a small segmentor's training still less than a 100th,
    so that a short training from scratch never uses the scan. Here the
    projections and the convolution keep the variance of what they read, and B
    and C are three times their input (root mean square): both parts are then
    of one size.

    Args:
        mixer: The mixer.

    Source:
        Our choice. What it gives: `python -m studies ablation`, in
        docs/studies.md.
    """
    for projection in (mixer.in_proj, mixer.out_proj):
        trunc_normal_init(projection, std=projection.in_features**-0.5)
    nn.init.normal_(mixer.conv.weight, std=1 / 3)
    by_direction = mixer.x_proj.weight.unflatten(0, (DIRECTIONS, -1))
    nn.init.normal_(
        by_direction[:, mixer.dt_rank :], std=3 * mixer.x_proj.in_features**-0.5
    )
