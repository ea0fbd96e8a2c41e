# SPDX-License-Identifier: Apache-2.0
"""Kernels of memory_readout on CUDA: memory_select and cross_readout in turn."""

import torch
from torch import Tensor

from .places import find_places, granularity_of


def memory_readout(
    values: Tensor, predicted: Tensor, granularities: list[float], coefficients: Tensor
) -> Tensor:
    """Compute memory_readout; its arguments are those of the op."""
    ops = torch.ops.mmadaptor
    places = find_places(predicted, granularities)
    memory = ops.memory_select(values.unsqueeze(-1), *places)
    return ops.cross_readout(memory, coefficients.unsqueeze(-1))


def memory_readout_backward(
    grad_y: Tensor,
    values: Tensor,
    predicted: Tensor,
    granularities: list[float],
    coefficients: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of values, predicted and coefficients."""
    ops = torch.ops.mmadaptor
    states, C = values.unsqueeze(-1), coefficients.unsqueeze(-1)
    locations, weights = find_places(predicted, granularities)
    memory = ops.memory_select(states, locations, weights)
    grad_memory, grad_C = ops.cross_readout_backward(grad_y, memory, C)
    grad_states, grad_locations, grad_weights = ops.memory_select_backward(
        grad_memory, states, locations, weights
    )
    grad_offsets = granularity_of(predicted, granularities) * grad_locations
    grad_logits = torch._softmax_backward_data(grad_weights, weights, -1, values.dtype)
    grad_predicted = torch.cat([grad_offsets.flatten(4), grad_logits.flatten(4)], -1)
    return grad_states.squeeze(-1), grad_predicted, grad_C.squeeze(-1)
