# SPDX-License-Identifier: Apache-2.0
"""Class subsets and per-class IoU for mmseg."""

from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS, METRICS
from torch import Tensor

from mmadaptor.datasets import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE


@DATASETS.register_module()
class ShapesOfSomeClasses(BaseSegDataset):
    """The embedded dataset with a subset of its classes; the others are ignored."""

    METAINFO = dict(
        classes=SEGMENTATION_CLASSES,
        palette=[list(colour) for colour in SEGMENTATION_PALETTE],
    )


@METRICS.register_module()
class ClasswiseIoU(IoUMetric):
    """mmseg's `IoUMetric` that also reports the IoU of each class."""

    def compute_metrics(self, results: list[tuple[Tensor, ...]]) -> dict:
        """Compute the metrics over all images.

        Args:
            results: For each image, the pixel counts per class of intersection,
                union, prediction and label.

        Returns:
            The metrics, in percent.
        """
        metrics = super().compute_metrics(results)
        intersection, union = (sum(part[i] for part in results) for i in (0, 1))
        for name, value in zip(
            self.dataset_meta['classes'], 100 * intersection / union, strict=True
        ):
            metrics[f'IoU_{name}'] = value.item()
        return metrics
