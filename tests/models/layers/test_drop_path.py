# SPDX-License-Identifier: Apache-2.0
"""Drop path: whole samples are dropped, and the mean stays."""

import pytest
import torch

from mmadaptor.models.layers.drop_path import DropPath


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_samples_are_dropped_as_a_whole_and_the_others_are_scaled(dtype):
    torch.manual_seed(0)
    x = torch.rand(4000, 2, 3, dtype=dtype) + 1
    y = DropPath(0.25)(x)
    assert y.dtype == dtype
    kept = y[:, 0, 0] != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(y[kept], x[kept] / 0.75)
    assert (y[~kept] == 0).all()


def test_a_small_rate_is_that_of_half_precision_too():
    torch.manual_seed(0)
    x = torch.ones(100_000, 1, dtype=torch.bfloat16)
    dropped = (DropPath(0.002)(x) == 0).float().mean().item()
    assert dropped == pytest.approx(0.002, abs=0.0005)


def test_nothing_is_dropped_in_evaluation():
    x = torch.rand(8, 3)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0).train()(x) is x
