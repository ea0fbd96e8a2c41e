# SPDX-License-Identifier: Apache-2.0
"""A picture of the run: losses and validation metrics."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mmadaptor.registry import HOOKS

METRICS = ('mAP', 'mAP_50', 'mAP_75', 'mIoU', 'mAcc', 'aAcc', 'top1', 'top5')


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws the losses and the validation metrics into `curves.png`.

    They come from mmengine's message hub, which is saved with each checkpoint:
    the curves of a resumed run begin where the run began.

    Args:
        filename: The picture's name in the work folder.
        metrics: Endings of the metrics to draw; where none is found, all
            metrics are drawn.
    """

    priority = 'LOW'

    def __init__(
        self, filename: str = 'curves.png', metrics: Sequence[str] = METRICS
    ) -> None:
        self.filename = filename
        self.metrics = tuple(metrics)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Draws what there is so far.

        Args:
            runner: The runner of the training.
            metrics: Unused; the message hub has them.
        """
        self.draw(runner)

    def after_train(self, runner: Runner) -> None:
        """Draws the whole run.

        Args:
            runner: The runner of the training.
        """
        self.draw(runner)

    @master_only
    def draw(self, runner: Runner) -> None:
        """Draws the picture.

        Args:
            runner: The runner of the training.
        """
        figure = self.figure(runner.message_hub)
        if figure is not None:
            figure.suptitle(runner.experiment_name)
            figure.savefig(os.path.join(runner.work_dir, self.filename), dpi=100)

    def figure(self, message_hub: MessageHub) -> Figure | None:
        """Draws losses on the left, metrics on the right.

        Args:
            message_hub: Holds the history of both.

        Returns:
            The figure, or None if nothing was trained yet.
        """
        series = {
            name: buffer.data[0] for name, buffer in message_hub.log_scalars.items()
        }
        losses = {
            name: values
            for name, values in _below(series, 'train/').items()
            if 'loss' in name
        }
        metrics = _below(series, 'val/')
        for name in ('time', 'data_time'):
            metrics.pop(name, None)
        chosen = {k: v for k, v in metrics.items() if self._wanted(k)}
        if not losses:
            return None
        figure = Figure(figsize=(12, 4.5), layout='constrained')
        left, right = figure.subplots(1, 2)
        _draw_losses(left, losses)
        _draw_metrics(right, chosen or metrics)
        return figure

    def _wanted(self, name: str) -> bool:
        return any(
            name == ending or name.endswith((f'/{ending}', f'_{ending}'))
            for ending in self.metrics
        )


def _below(series: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): np.asarray(values, dtype=float)
        for name, values in series.items()
        if name.startswith(prefix)
    }


def _draw_losses(axes: Axes, losses: dict[str, np.ndarray]) -> None:
    for name, values in losses.items():
        # A running mean over a fiftieth of the run shows the trend through
        # the noise of single batches; the noise of the sum is drawn faintly.
        width = max(1, len(values) // 50)
        mean = np.convolve(values, np.ones(width) / width, mode='valid')
        (line,) = axes.plot(
            np.arange(len(mean)) + width, mean, label=name, linewidth=1.2
        )
        if name == 'loss':
            axes.plot(
                np.arange(len(values)) + 1,
                values,
                color=line.get_color(),
                alpha=0.2,
                linewidth=0.6,
            )
    axes.set(xlabel='iteration', ylabel='training loss')
    axes.legend(fontsize='small')
    axes.grid(alpha=0.3)


def _draw_metrics(axes: Axes, metrics: dict[str, np.ndarray]) -> None:
    for name, values in metrics.items():
        axes.plot(
            np.arange(len(values)) + 1, values, marker='o', markersize=3, label=name
        )
    axes.set(xlabel='validation', ylabel='metric')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metrics:
        axes.legend(fontsize='small')
    axes.grid(alpha=0.3)
