# SPDX-License-Identifier: Apache-2.0
"""The curves of a training are drawn."""

from types import SimpleNamespace

from mmengine.logging import MessageHub
from PIL import Image

from mmadaptor.engine import CurvesHook
from mmadaptor.visualization.curves import draw_curves


def test_curves_are_drawn_from_the_message_hub(tmp_path):
    hub = MessageHub('curves')
    for i in range(100):
        hub.update_scalar('train/loss', 1 / (i + 1))
        hub.update_scalar('train/loss_cls', 0.5 / (i + 1))
        hub.update_scalar('train/lr', 0.1)
    for value in (0.1, 0.4, 0.5):
        hub.update_scalar('val/coco/bbox_mAP', value)
        hub.update_scalar('val/coco/bbox_mAP_s', value)
    runner = SimpleNamespace(
        message_hub=hub, work_dir=str(tmp_path), experiment_name='curves'
    )
    drawn = []
    figure = draw_curves(hub)
    for axes in figure.axes:
        drawn += [line.get_label() for line in axes.lines]
        if axes.get_xlabel() == 'validation':
            assert list(axes.lines[0].get_ydata()) == [0.1, 0.4, 0.5]
    assert 'coco/bbox_mAP' in drawn
    assert 'coco/bbox_mAP_s' not in drawn
    assert {'loss', 'loss_cls'} <= set(drawn)
    assert not any('lr' in label for label in drawn)
    CurvesHook().after_train(runner)
    assert Image.open(tmp_path / 'curves.png').size == (1200, 450)


def test_curves_of_no_training_are_no_image(tmp_path):
    hub = MessageHub('empty')
    CurvesHook().after_train(
        SimpleNamespace(message_hub=hub, work_dir=str(tmp_path), experiment_name='x')
    )
    assert not list(tmp_path.iterdir())
