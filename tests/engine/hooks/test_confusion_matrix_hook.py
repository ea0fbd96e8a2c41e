# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix is drawn after the test of a classifier."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from mmadaptor.engine import ConfusionMatrixHook
from mmadaptor.errors import InputError


def matrix_runner(tmp_path, *metrics):
    return SimpleNamespace(
        work_dir=str(tmp_path),
        test_evaluator=SimpleNamespace(metrics=metrics),
        test_dataloader=SimpleNamespace(
            dataset=SimpleNamespace(metainfo=dict(classes=('disc', 'box')))
        ),
    )


def test_confusion_matrix_is_drawn(tmp_path):
    evaluation = pytest.importorskip('mmpretrain.evaluation')
    runner = matrix_runner(tmp_path, evaluation.ConfusionMatrix())
    hook = ConfusionMatrixHook()
    hook.before_test(runner)
    hook.after_test_epoch(
        runner, {'confusion_matrix/result': torch.tensor([[5, 1], [0, 4]])}
    )
    assert Image.open(tmp_path / 'confusion_matrix.png').size[0] > 300


def test_confusion_matrix_needs_its_metric(tmp_path):
    class Accuracy:
        pass

    with pytest.raises(InputError, match='in test_evaluator, which has Accuracy'):
        ConfusionMatrixHook().before_test(matrix_runner(tmp_path, Accuracy()))
