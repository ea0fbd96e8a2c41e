# SPDX-License-Identifier: Apache-2.0
"""What the studies look at class by class, for mmseg."""

from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS, METRICS
from torch import Tensor

from mmadaptor.datasets import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE


@DATASETS.register_module()
class ShapesOfSomeClasses(BaseSegDataset):
    """The embedded dataset; classes not asked for are void."""

    METAINFO = dict(
        classes=SEGMENTATION_CLASSES,
        palette=[list(colour) for colour in SEGMENTATION_PALETTE],
    )


@METRICS.register_module()
class ClasswiseIoU(IoUMetric):
    """mmseg's metric, with the IoU of each class beside their mean."""

    def compute_metrics(self, results: list[tuple[Tensor, ...]]) -> dict:
        """The metrics of all pictures.

        Args:
            results: Of each, the pixels by class of the intersection, the
                union, the prediction and the label.

        Returns:
            The metrics, in per cent.
        """
        metrics = super().compute_metrics(results)
        intersection, union = (sum(part[i] for part in results) for i in (0, 1))
        for name, value in zip(
            self.dataset_meta['classes'], 100 * intersection / union, strict=True
        ):
            metrics[f'IoU_{name}'] = value.item()
        return metrics
