# SPDX-License-Identifier: Apache-2.0
"""Test the ops in torch's FLOP counter, which counts a multiply-add as 2 FLOPs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
    dilated_depthwise,
    memory_select,
    selective_scan,
    selective_scan_states,
)

BATCH, HEIGHT, WIDTH, CHANNELS, STATES = 2, 3, 5, 6, 2
PIXELS = BATCH * HEIGHT * WIDTH
TOKENS = (BATCH, HEIGHT, WIDTH, 4)


def counted(function, *arguments):
    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops() / 2


def test_scan_of_a_sequence():
    u = torch.randn(BATCH, CHANNELS, 7)
    A, B = -torch.ones(CHANNELS, STATES), torch.randn(BATCH, STATES, 7)
    expected = BATCH * CHANNELS * 7 * (9 * STATES + 1)
    assert counted(selective_scan, u, u, A, B, B) == expected
    assert counted(selective_scan_states, u, u, A, B) == expected


def test_scan_of_a_map_is_four_scans():
    x = torch.randn(BATCH, HEIGHT, WIDTH, CHANNELS)
    delta = torch.randn(*TOKENS, CHANNELS)
    A, B = -torch.ones(4, CHANNELS, STATES), torch.randn(*TOKENS, STATES)
    expected = 4 * PIXELS * CHANNELS * (9 * STATES + 1)
    assert counted(cross_selective_scan, x, delta, A, B, B) == expected
    assert counted(cross_selective_scan_states, x, delta, A, B) == expected


def test_gather_and_readout():
    states = torch.randn(*TOKENS, CHANNELS, STATES)
    locations, weights = torch.ones(*TOKENS, 2, 3, 2), torch.ones(*TOKENS, 2, 3)
    gather = counted(memory_select, states, locations, weights)
    assert gather == states.numel() * 3 * 4  # 3 places, 4 pixels around each
    assert counted(cross_readout, states, torch.randn(*TOKENS, STATES)) == (
        states.numel()
    )


def test_convolutions_of_three_dilations():
    y, kernels = torch.randn(2, 3, 5, 6), torch.randn(3, 6, 3, 3)
    assert counted(dilated_depthwise, y, kernels, (1, 2, 3)) == (
        y.numel() * 3 * 9
    )  # 3 dilations, 9 taps


def test_a_backward_pass_counts_twice():
    states = torch.randn(*TOKENS, CHANNELS, STATES, requires_grad=True)
    locations, weights = torch.ones(*TOKENS, 2, 3, 2), torch.ones(*TOKENS, 2, 3)
    x = torch.randn(BATCH, HEIGHT, WIDTH, CHANNELS, requires_grad=True)
    delta = torch.randn(*TOKENS, CHANNELS)
    A, B = -torch.ones(4, CHANNELS, STATES), torch.randn(*TOKENS, STATES)
    u = torch.randn(BATCH, CHANNELS, 7, requires_grad=True)
    fixed = torch.randn(BATCH, STATES, 7)
    for function, arguments in (
        (memory_select, (states, locations, weights)),
        (cross_readout, (states, B)),
        (dilated_depthwise, (x, torch.randn(1, CHANNELS, 3, 3), [2])),
        (cross_selective_scan, (x, delta, A, B, B)),
        (cross_selective_scan_states, (x, delta, A, B)),
        (selective_scan, (u, u, A[0], fixed, fixed)),
        (selective_scan_states, (u, u, A[0], fixed)),
    ):
        forward = counted(function, *arguments)
        assert (
            counted(lambda f=function, a=arguments: f(*a).sum().backward())
            == 3 * forward
        )
