# SPDX-License-Identifier: Apache-2.0
"""An image of a test: which classes are confused."""

import os
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadaptor.errors import InputError
from mmadaptor.registry import HOOKS


@HOOKS.register_module()
class ConfusionMatrixHook(Hook):
    """Draws mmpretrain's confusion matrix into `confusion_matrix.png`.

    The metrics of the test must include `dict(type='ConfusionMatrix')`.
    """

    priority = 'LOW'

    def before_test(self, runner: Runner) -> None:
        """Refuse a test without the metric.

        Raises:
            InputError: `test_evaluator` has no confusion matrix.
        """
        names = [type(m).__name__ for m in runner.test_evaluator.metrics]
        if 'ConfusionMatrix' not in names:
            raise InputError(
                "ConfusionMatrixHook needs dict(type='ConfusionMatrix') in "
                f'test_evaluator, which has {", ".join(names)}.'
            )

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Draw the matrix."""
        from matplotlib import pyplot
        from mmpretrain.evaluation import ConfusionMatrix

        figure = ConfusionMatrix.plot(
            metrics['confusion_matrix/result'],
            include_values=True,
            classes=list(runner.test_dataloader.dataset.metainfo['classes']),
            show=False,
        )
        path = os.path.join(runner.work_dir, 'confusion_matrix.png')
        figure.savefig(path, bbox_inches='tight')
        pyplot.close(figure)
