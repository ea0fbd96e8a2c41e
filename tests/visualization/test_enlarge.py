# SPDX-License-Identifier: Apache-2.0
"""Small images are enlarged, together with their boxes and masks."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmadaptor.visualization import draw_large


class Visualizer:
    """Keeps the arguments of the last call."""

    def add_datasample(self, name, image, data_sample=None, **kwargs):
        self.seen = image, data_sample, kwargs


@pytest.fixture
def draw():
    visualizer = Visualizer()
    draw_large(visualizer)

    def draw(*args, **kwargs):
        visualizer.add_datasample('name', *args, **kwargs)
        return visualizer.seen

    return draw


def test_pixels_become_squares(draw):
    image = np.arange(4 * 200 * 3, dtype=np.uint8).reshape(4, 200, 3)
    large, sample, kwargs = draw(image, step=7)
    assert large.shape == (8, 400, 3) and sample is None and kwargs == dict(step=7)
    for row in (0, 1):
        for column in (0, 1):
            assert (large[row::2, column::2] == image).all()


@pytest.mark.parametrize('shape', [(512, 3, 3), (300, 400, 3)])
def test_large_images_are_unchanged(draw, shape):
    image, sample = np.zeros(shape, np.uint8), object()
    large, same, _ = draw(image, sample)
    assert large is image and same is sample


def test_boxes_and_masks_grow_too(draw):
    structures = pytest.importorskip('mmdet.structures')
    boxes = pytest.importorskip('mmdet.structures.bbox').HorizontalBoxes
    masks = pytest.importorskip('mmdet.structures.mask').BitmapMasks
    mask = np.zeros((1, 100, 128), np.uint8)
    mask[0, 10:30, 20:40] = 1
    box = torch.tensor([[20.0, 10.0, 40.0, 30.0]])
    sample = structures.DetDataSample(
        gt_instances=InstanceData(bboxes=boxes(box), masks=masks(mask, 100, 128)),
        pred_instances=InstanceData(
            bboxes=box, masks=torch.from_numpy(mask).bool(), scores=torch.tensor([0.5])
        ),
    )
    _, large, _ = draw(np.zeros((100, 128, 3), np.uint8), sample)
    for part in (large.gt_instances, large.pred_instances):
        assert torch.equal(getattr(part.bboxes, 'tensor', part.bboxes), 4 * box)
        drawn = np.asarray(getattr(part.masks, 'masks', part.masks))
        assert drawn.shape == (1, 400, 512)
        assert drawn[0, 40:120, 80:160].all() and drawn.sum() == 16 * mask.sum()
    assert sample.pred_instances.bboxes.tolist() == box.tolist()
    assert sample.gt_instances.bboxes.tensor.tolist() == box.tolist()
