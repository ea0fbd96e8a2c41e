# SPDX-License-Identifier: Apache-2.0
"""Classes are named beside a segmentation map, and the map is large."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from PIL import Image

from mmadaptor.visualization import draw_large
from mmadaptor.visualization.legend import ROW, draw_legend

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_a_row_of_its_color_for_each_class():
    image = draw_legend([('a', RED), ('some name', BLUE)], 2 * ROW)
    assert image.shape[0] == 2 * ROW
    assert (image[ROW // 2, 10] == RED).all()
    assert (image[ROW + ROW // 2, 10] == BLUE).all()
    assert (image.sum(axis=2) < 300).any()  # the names, in black
    two = draw_legend([('a', RED), ('some name', BLUE)], ROW)  # a column each
    assert two.shape[0] == ROW and two.shape[1] > image.shape[1]
    assert draw_legend([], 7).shape == (7, 0, 3)


def test_a_map_of_mmseg(tmp_path):
    """Enlarged 8 times; classes that occur are in the legend, none covers the map."""
    mmseg = pytest.importorskip('mmseg.visualization')
    from mmseg.structures import SegDataSample

    visualizer = mmseg.SegLocalVisualizer(name='legend', alpha=1.0)
    classes = ('ground', 'box', 'never', 'never2')
    visualizer.dataset_meta = dict(
        classes=classes, palette=[(0, 0, 0), RED, BLUE, (0, 255, 0)]
    )
    draw_large(visualizer)
    labels = torch.zeros(1, 48, 64, dtype=torch.long)
    labels[:, 10:20, 30:40] = 1
    labels[:, 0, 0] = 255  # ignored
    sample = SegDataSample(
        pred_sem_seg=PixelData(data=labels), gt_sem_seg=PixelData(data=labels)
    )

    def draw(**how):
        visualizer.add_datasample(
            'x',
            np.zeros((48, 64, 3), np.uint8),
            sample,
            out_file=str(tmp_path / 'x.png'),
            **how,
        )
        return np.asarray(Image.open(tmp_path / 'x.png'))

    drawn = draw()
    half = drawn.shape[1] // 2  # ground truth, then prediction
    assert drawn.shape[0] == 384 and half > 512
    for part in (drawn[:, :512], drawn[:, half : half + 512]):
        assert (part[80:160, 240:320] == RED).all()
        assert (part == RED).all(axis=2).sum() == 80 * 80
    assert not (drawn == BLUE).all(axis=2).any()
    assert sample.pred_sem_seg.data.shape == (1, 48, 64)
    assert draw(draw_gt=False, with_labels=False).shape == (384, 512, 3)
