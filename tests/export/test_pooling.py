# SPDX-License-Identifier: Apache-2.0
"""Adaptive pooling by matrix products is that of torch."""

import pytest
import torch
import torch.nn.functional as F

from mmadaptor.export.decompositions import adaptive_avg_pool2d


@pytest.mark.parametrize('size', [(7, 11), (6, 6), (1, 4), (2, 13)], ids=str)
@pytest.mark.parametrize('bins', [(1, 1), (3, 5), (6, 2), (8, 12)], ids=str)
def test_bins_of_any_size(size, bins):
    x = torch.randn(2, 3, *size)
    expected = F.adaptive_avg_pool2d(x, bins)
    torch.testing.assert_close(adaptive_avg_pool2d(x, bins), expected)
