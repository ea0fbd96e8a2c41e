# SPDX-License-Identifier: Apache-2.0
"""Initialization of the parameters of a scan."""

import math

import torch
from torch import Tensor, nn

DIRECTIONS = 4


def inverse_softplus(value: Tensor) -> Tensor:
    """Return the inverse of softplus for positive numbers."""
    return value + torch.log(-torch.expm1(-value))


def at_least_float32(parameter: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is float64.

    The parameters of a scan keep this precision in a model cast to half.
    """
    return parameter if parameter.dtype == torch.float64 else parameter.float()


@torch.no_grad()
def assign(parameter: Tensor, value: Tensor) -> None:
    """Copy a plain tensor into a parameter, which FSDP2 may have sharded."""
    if hasattr(parameter, 'device_mesh'):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(
            value.to(parameter.device), parameter.device_mesh, parameter.placements
        )
    parameter.copy_(value)


@torch.no_grad()
def init_scan_parameters(mixer: nn.Module) -> None:
    """Initialize the parameters of a scan, with steps log-uniform in [0.001, 0.1].

    Args:
        mixer: Module with `dt_weight` `(K, D, R)`, `dt_bias` and `D` `(K, D)` and
            `A_log` `(K, D, N)` for K directions.

    Source:
        Mamba (arXiv 2312.00752), as VMamba and Vim use it.
    """
    bound = mixer.dt_weight.shape[-1] ** -0.5
    nn.init.uniform_(mixer.dt_weight, -bound, bound)
    low, high = math.log(1e-3), math.log(1e-1)
    step = torch.empty_like(mixer.dt_bias).uniform_(low, high).exp()
    mixer.dt_bias.copy_(inverse_softplus(step))
    rates = torch.arange(1.0, mixer.A_log.shape[-1] + 1)
    assign(mixer.A_log, rates.log().expand(mixer.A_log.shape))
    nn.init.ones_(mixer.D)


@torch.no_grad()
def init_balanced(mixer: nn.Module) -> None:
    """Initialize a mixer so that the scan contributes from the first step.

    The output of the scan is a product of B, C and the input, which are all small
    with the initialization of VMamba: 1/10000 of the skip connection `D`, and after
    750 steps of a small segmentor still less than 1/100. So a short training from
    scratch never uses the scan. Here the projections and the convolution keep the
    variance of their input, and B and C are three times their input (root mean
    square), so that both terms have the same size.

    Source:
        Our choice. Measured by `python -m studies ablation`, see
        docs/studies/scan_start.md.
    """
    for projection in (mixer.in_proj, mixer.out_proj):
        nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
    nn.init.normal_(mixer.conv.weight, std=1 / 3)
    weight = mixer.x_proj.weight
    whole = weight.full_tensor() if hasattr(weight, 'full_tensor') else weight
    by_direction = whole.unflatten(0, (DIRECTIONS, -1))
    nn.init.normal_(
        by_direction[:, mixer.dt_rank :], std=3 * mixer.x_proj.in_features**-0.5
    )
    assign(weight, whole)
