# SPDX-License-Identifier: Apache-2.0
"""The difference between a file and its model, by hand."""

import math

import pytest
import torch
from torch import nn

from mmadaptor.export.comparison import differences


class Model(nn.Module):
    """Returns its images, and their classes."""

    def forward(self, images):
        return images, images.flatten(1).argmax(1)


def test_the_worst_batch_counts():
    batches = [torch.tensor([[[[1.0, -4.0]]]]), torch.tensor([[[[2.0, 0.0]]]])]
    outputs = iter(
        [
            (torch.tensor([[[[1.0, -3.0]]]]), torch.tensor([0])),  # 1 of 4
            (torch.tensor([[[[2.0, 0.2]]]]), torch.tensor([1])),  # 0.2 of 2
        ]
    )
    found = differences(lambda _: next(outputs), ['map', 'class'], Model(), batches)
    assert found == dict(map=0.25, **{'class': 1.0})


@pytest.mark.parametrize('bad', [0, 1, 2])
def test_nan_in_any_batch_is_the_worst(bad):
    batches = torch.rand(3, 2, 1, 2, 2)

    def run(images):
        values, classes = Model()(images)
        return values * (math.nan if images is batches[bad] else 1.5), classes

    batches = list(batches)
    found = differences(run, ['map', 'class'], Model(), batches)
    assert math.isnan(found['map']) and found['class'] == 0


def test_classes_count_by_their_share():
    images = [torch.tensor([[[[2.0, 1.0]]], [[[2.0, 1.0]]]])]
    found = differences(
        lambda x: (x, torch.tensor([0, 1])), ['map', 'class'], Model(), images
    )
    assert found == dict(map=0, **{'class': 0.5})


def test_a_map_of_zeros_and_a_single_output():
    images = [torch.zeros(1, 1, 2, 2)]
    assert differences(lambda x: [x], ['map'], nn.Identity(), images) == dict(map=0)
    with pytest.raises(ValueError, match='shorter'):
        differences(lambda x: [x], ['map', 'class'], nn.Identity(), images)


def test_the_model_is_compared_in_evaluation_mode():
    images = [torch.rand(2, 3, 4, 4)]
    model = nn.Sequential(nn.Dropout(0.5)).train()
    assert differences(lambda x: [x], ['map'], model, images) == dict(map=0)
