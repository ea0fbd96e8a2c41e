# SPDX-License-Identifier: Apache-2.0
"""Computes the metrics of a batch."""

import copy
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.utils import apply_to

# Metrics of the toolboxes that keep results in `results`, and write only to `FILES`.
METRICS = {
    'Accuracy',
    'AveragePrecision',
    'CocoMetric',
    'ConfusionMatrix',
    'IoUMetric',
    'LVISMetric',
    'MultiLabelMetric',
    'SingleLabelMetric',
    'VOCMetric',
}
FILES = ('outfile_prefix', 'output_dir')


def measure(evaluator: Evaluator, outputs: Sequence, batch: Any) -> None:
    """Compute metrics of a batch alone; its files are written to a temporary folder.

    Args:
        evaluator: The evaluator of a loop. One of another class than mmengine's may
            give a metric only some of the samples, and is left out.
        outputs: The predictions for the batch.
        batch: The batch.
    """
    copies = [copy.copy(m) for m in evaluator.metrics if _can_be_tried(m)]
    if type(evaluator) is not Evaluator:
        copies = []
    with tempfile.TemporaryDirectory() as folder:
        for metric in copies:
            metric.results = []
            for name in FILES:
                if getattr(metric, name, None) is not None:
                    setattr(metric, name, os.path.join(folder, ''))
            if hasattr(metric, 'img_ids'):  # mmdet's: not all of the annotation file
                metric.img_ids = [sample.img_id for sample in outputs]
        Evaluator(copies).process(data_samples=outputs, data_batch=batch)
        for metric in copies:
            metric.compute_metrics(
                apply_to(metric.results, torch.is_tensor, torch.Tensor.cpu)
            )


def _can_be_tried(metric: BaseMetric) -> bool:
    kind = type(metric)
    toolbox = kind.__module__.startswith(('mmdet.', 'mmpretrain.', 'mmseg.'))
    return toolbox and kind.__name__ in METRICS
