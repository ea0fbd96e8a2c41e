# SPDX-License-Identifier: Apache-2.0
"""Test the scans under autocast."""

import pytest
import torch
from cases import Case
from test_cross_selective_scan import make

from mmadaptor.ops import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
    memory_select,
    selective_scan,
    selective_scan_states,
)


def test_autocast_keeps_states_in_float32():
    inputs = make(1, 4, 4, 8, 1, torch.float32)
    C = inputs.pop('C')
    del inputs['D']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        states = cross_selective_scan_states(**inputs)
        y = cross_readout(states, C.bfloat16())
    assert states.dtype == torch.float32
    assert y.dtype == torch.bfloat16


def test_float16_does_not_overflow():
    """The sum of four directions exceeds 65504, the largest number of float16."""
    inputs = make(1, 4, 4, 8, 1, torch.float32)
    with torch.no_grad():
        inputs['x'].fill_(2e4)
    expected = cross_selective_scan(**inputs, delta_softplus=True)
    assert expected.abs().max() > 65504
    lowered = {k: t.half() if k in 'xBC' else t for k, t in inputs.items()}
    with torch.autocast('cpu', dtype=torch.float16):
        y = cross_selective_scan(**lowered, delta_softplus=True)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected, rtol=2e-3, atol=2e-3 * 2e4)


def test_float64_stays():
    maps, sequences = make(1, 2, 2, 3, 1, torch.float64), Case().inputs(torch.float64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert cross_selective_scan(**maps).dtype == torch.float64
        assert selective_scan(**sequences).dtype == torch.float64


def test_integers_are_refused_with_autocast_too():
    sequences = Case().inputs(torch.float32)
    sequences['u'] = sequences['u'].detach().long()
    states = torch.ones(1, 2, 3, 1, 2, 2)
    places = torch.ones(1, 2, 3, 1, 2, 2, 2, dtype=torch.long)
    for enabled in (False, True):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            with pytest.raises(ValueError, match='`u` .*int64'):
                selective_scan(**sequences)
            with pytest.raises(ValueError, match='`locations` .*int64'):
                memory_select(states, places, torch.ones(1, 2, 3, 1, 2, 2))


@pytest.mark.parametrize(
    'lowered, kept',
    [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)],
    ids=str,
)
def test_dtype_of_y(lowered, kept):
    maps, sequences = make(1, 2, 2, 3, 1, torch.float32), Case().inputs(torch.float32)
    with torch.autocast('cpu', dtype=lowered):
        assert cross_selective_scan(**maps).dtype == kept
        assert selective_scan(**sequences).dtype == kept
        sequences = {k: sequences[k] for k in ('u', 'delta', 'A', 'B')}
        assert selective_scan_states(**sequences).dtype == torch.float32
