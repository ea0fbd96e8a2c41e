# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T: memory over the hidden states of a scan, at a few learned places."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor, nn

from mmadaptor.ops import cross_readout, memory_readout, memory_select
from mmadaptor.ops._dispatch import full_precision
from mmadaptor.ops.memory_readout import find_places

from ..arguments import check_flag, check_integer, check_number
from .last_reset import LastReset
from .linear import linear
from .op import Op
from .plain_layer import is_plain
from .scan_init import assign


def ring(places: int, device: torch.device | None = None) -> Tensor:
    """Return points at equal angles on the unit circle.

    Returns:
        `(places, 2)`, as (row, column).
    """
    angles = torch.arange(places, device=device) * (2 * math.pi / places)
    return torch.stack([angles.sin(), angles.cos()], dim=1)


def read_memory(
    states: Tensor,
    predicted: Tensor,
    granularities: Sequence[float],
    coefficients: Tensor,
) -> Tensor:
    """Gather states at the predicted places and read them out.

    Args:
        states: All states in image order, `(B, H, W, K, D, N)`.
        predicted: The result of :meth:`AdaptorT.predict`, `(B, H, W, K, 3 S P)`.
        granularities: Unit of the offsets of each sequence in pixels, S numbers.
        coefficients: Output coefficients, `(B, H, W, K, N)`.

    Returns:
        The sum over the directions, `(B, H, W, D)`.
    """
    if states.shape[-1] == 1:
        return memory_readout(
            states.squeeze(-1), predicted, granularities, coefficients.squeeze(-1)
        )
    memory = memory_select(states, *find_places(predicted, granularities))
    return cross_readout(memory, coefficients)


class AdaptorT(nn.Module):
    """Memory over the hidden states of a scan.

    The scan forgets states that are far back, and a causal scan does not know those
    ahead. Each token predicts from its own state `places` places of the whole map
    for each of `sequences` sequences, and a weight for each place. Its memory is the
    weighted sum of the states there, read out by the token's own C:

    .. code-block:: text

        p_i = grid_i + r_s phi_p(h_i)        places, (row, column) in pixels
        c_i = softmax_P(phi_c(h_i))          weights
        m_i = sum_p c_{i,p} h(p_{i,p})       memory
        y_i = y_i + gamma sum_k C_{k,i} . m_{k,i}

    The sequences are groups of consecutive channels. Each has a granularity, the scale
    `r_s` of its offsets, which grows with s. The directions k of the scan share the
    predictors.

    Args:
        channels: Channels of the scan, D.
        sequences: Number of sequences, S. Must divide `channels`.
        places: Number of places per token and sequence, P.
        granularities: `r_s` in pixels of the map, S numbers. Default: 2^s, so
            1 and 2 for two sequences.
        static: Whether every token uses the ring itself instead of predicted
            places, as in the ablation of the paper.
        gamma_init: Initial value of `gamma`. With 0, the default, the model is
            unchanged bit for bit.

    Raises:
        ValueError: An argument is out of range, `sequences` does not divide the
            channels, or the number of granularities is not `sequences`.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-T. The paper does not give the
        coordinates, sampling and initialization of the places, or how the sequences
        differ. Our choice: bilinear sampling at places in pixels, zero weights with
        a ring of biases, channel groups, and the granularities. Also our choice: with
        more than one state per channel, the predictors read the output `C_i . h_i` of
        the token instead of its state.
    """

    # Decay would move the places to the token itself.
    undecayed = ('gamma', 'offsets.bias', 'coefficients.bias')
    """Parameters without weight decay."""

    def __init__(
        self,
        channels: int,
        sequences: int = 2,
        places: int = 4,
        granularities: Sequence[float] | None = None,
        static: bool = False,
        gamma_init: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer('sequences', sequences)
        check_integer('places', places)
        check_flag('static', static)
        check_number('gamma_init', gamma_init)
        if channels % sequences:
            raise ValueError(
                f'`sequences` must divide the {channels} channels '
                f'of the scan, got {sequences}'
            )
        if granularities is None:
            granularities = [2.0**s for s in range(sequences)]
        if (
            not isinstance(granularities, Sequence)
            or len(granularities) != sequences
            or not all(isinstance(r, Real) and math.isfinite(r) for r in granularities)
        ):
            raise ValueError(
                f'`granularities` must be {sequences} finite numbers, '
                f'one per sequence, got {granularities}'
            )
        self.channels = channels
        self.sequences, self.places = sequences, places
        self.gamma_init, self.static = float(gamma_init), static
        points = sequences * places
        if static:
            self.offsets = None
        else:
            self.offsets = nn.Linear(channels, points * 2)
        self.coefficients = nn.Linear(channels, points)
        self.gamma = nn.Parameter(torch.full((channels,), self.gamma_init))
        self.granularities = [float(r) for r in granularities]
        self.memory = Op(read_memory)
        self.last_reset = LastReset(self.reset_parameters)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize: places on the ring with equal weights for every state."""
        nn.init.constant_(self.gamma, self.gamma_init)
        nn.init.zeros_(self.coefficients.weight)
        nn.init.zeros_(self.coefficients.bias)
        if self.offsets is not None:
            nn.init.zeros_(self.offsets.weight)
            bias = ring(self.places).repeat(self.sequences, 1).flatten()
            assign(self.offsets.bias, bias)

    def predict(self, tokens: Tensor) -> Tensor:
        """Predict offsets and logits of the places.

        Plain layers are computed by one matrix product; others are called.

        Args:
            tokens: Inputs of the predictors, `(B, H, W, K, D)`.

        Returns:
            Offsets from the token, `(S, P, 2)` in units of the granularity, followed
            by logits, `(S, P)`: `(B, H, W, K, 3 S P)`.
        """
        layers = [
            layer for layer in (self.offsets, self.coefficients) if layer is not None
        ]
        if all(is_plain(layer, nn.Linear) for layer in layers):
            # In the precision of the tokens, also in a model cast to half precision.
            predicted = linear(
                tokens,
                torch.cat([layer.weight for layer in layers]).to(tokens.dtype),
                torch.cat([layer.bias for layer in layers]).to(tokens.dtype),
            )
        else:
            x = tokens.to(self.gamma.dtype)  # that of the model
            predicted = torch.cat([layer(x) for layer in layers], dim=-1).to(
                tokens.dtype
            )
        if self.offsets is None:
            # Not a buffer, which a model from the meta device would not fill.
            places = ring(self.places, tokens.device).to(tokens.dtype)
            places = places.repeat(self.sequences, 1)
            places = places.flatten().expand(*tokens.shape[:-1], -1)
            predicted = torch.cat([places, predicted], dim=-1)
        return predicted

    def locate(self, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Compute places and weights from predictions.

        Args:
            predicted: The result of `predict`, `(B, H, W, K, 3 S P)`.

        Returns:
            Locations `(B, H, W, K, S, P, 2)` as (row, column) in pixels, and weights
            `(B, H, W, K, S, P)` that sum to 1 over P.
        """
        return find_places(predicted, self.granularities)

    def forward(self, states: Tensor, C: Tensor | None = None) -> Tensor:
        """Compute the term that the memory adds to the output of the scan.

        Args:
            states: All states in image order, `(B, H, W, K, D, N)`.
            C: Output coefficients `(B, H, W, K, N)`. None: `states` are outputs
                already, with N = 1, and so is the memory.

        Returns:
            `(B, H, W, D)` in the dtype of C, or of the outputs.
        """
        # Half precision rounds places to a quarter of a pixel or worse.
        with full_precision(states.device):
            if C is None:
                coefficients = states.new_ones(*states.shape[:4], 1)
            else:
                coefficients = C.to(states.dtype)
            if states.shape[-1] == 1:
                tokens = states.squeeze(-1)
            else:
                # The output of the token itself, `(B H W, K, D, 1)`.
                tokens = states.flatten(0, 2) @ (
                    coefficients.flatten(0, 2).unsqueeze(-1)
                )
                tokens = tokens.squeeze(-1).unflatten(0, states.shape[:3])
            y = self.memory(
                states, self.predict(tokens), self.granularities, coefficients
            )
        return (self.gamma * y).to(states.dtype if C is None else C.dtype)
