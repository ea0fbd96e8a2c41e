# SPDX-License-Identifier: Apache-2.0
"""A picture of a test: which classes are taken for which."""

import os

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadaptor.errors import InputError
from mmadaptor.registry import HOOKS

RESULT = 'confusion_matrix/result'


@HOOKS.register_module()
class ConfusionMatrixHook(Hook):
    """Draws mmpretrain's confusion matrix into `confusion_matrix.png`.

    The metrics of the test have to include `dict(type='ConfusionMatrix')`.

    Args:
        filename: The picture's name in the work folder.
    """

    priority = 'LOW'

    def __init__(self, filename: str = 'confusion_matrix.png') -> None:
        self.filename = filename

    def before_test(self, runner: Runner) -> None:
        """Refuses a test without the matrix.

        Args:
            runner: The runner of the test.

        Raises:
            InputError: The metric is not there.
        """
        names = [type(m).__name__ for m in runner.test_evaluator.metrics]
        if 'ConfusionMatrix' not in names:
            raise InputError(
                "ConfusionMatrixHook needs dict(type='ConfusionMatrix') in "
                f'test_evaluator, which has {", ".join(names)}.'
            )

    @master_only
    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, torch.Tensor] | None = None
    ) -> None:
        """Draws the matrix.

        Args:
            runner: The runner of the test.
            metrics: Holds the matrix, `(classes, classes)`.
        """
        from matplotlib import pyplot
        from mmpretrain.evaluation import ConfusionMatrix

        figure = ConfusionMatrix.plot(
            metrics[RESULT],
            include_values=True,
            classes=list(runner.test_dataloader.dataset.metainfo['classes']),
            show=False,
        )
        figure.savefig(
            os.path.join(runner.work_dir, self.filename), bbox_inches='tight'
        )
        pyplot.close(figure)
