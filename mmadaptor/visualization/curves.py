# SPDX-License-Identifier: Apache-2.0
"""Figure of the losses and validation metrics of a run."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mmengine.logging import MessageHub

METRICS = ('mAP', 'mAP_50', 'mAP_75', 'mIoU', 'mAcc', 'aAcc', 'top1', 'top5')


def draw_curves(message_hub: MessageHub) -> Figure | None:
    """Draw the losses on the left and the validation metrics on the right.

    Args:
        message_hub: Message hub with the history of the run. Metrics whose names end in
            one of `METRICS` are drawn, or all metrics if there is no such metric.

    Returns:
        The figure, or None if there is no loss yet.
    """
    losses, metrics = {}, {}
    for name, buffer in message_hub.log_scalars.items():
        values = np.asarray(buffer.data[0], dtype=float)
        split, _, key = name.partition('/')
        if split == 'train' and 'loss' in key:
            losses[key] = values
        elif split == 'val' and key not in ('time', 'data_time'):
            metrics[key] = values
    if not losses:
        return None
    chosen = {
        k: v
        for k, v in metrics.items()
        if any(k == end or k.endswith((f'/{end}', f'_{end}')) for end in METRICS)
    }
    figure = Figure(figsize=(12, 4.5), layout='constrained')
    left, right = figure.subplots(1, 2)
    for name, values in losses.items():
        # A running mean over 2 % of the run shows the trend.
        width = max(1, len(values) // 50)
        mean = np.convolve(values, np.ones(width) / width, mode='valid')
        steps = np.arange(len(mean)) + width
        (line,) = left.plot(steps, mean, label=name, linewidth=1.2)
        if name == 'loss':
            steps, faint = (np.arange(len(values)) + 1, dict(alpha=0.2, linewidth=0.6))
            left.plot(steps, values, color=line.get_color(), **faint)
    for name, values in (chosen or metrics).items():
        steps = np.arange(len(values)) + 1
        right.plot(steps, values, marker='o', markersize=3, label=name)
    left.set(xlabel='iteration', ylabel='training loss')
    right.set(xlabel='validation', ylabel='metric')
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize='small')
    return figure
