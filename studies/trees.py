# SPDX-License-Identifier: Apache-2.0
"""What the adaptors give a detector of trees in aerial photographs."""

from .parts import parts
from .run import Run
from .study import Study, average

CONFIG = 'fcos_mamba_adaptor_b0_trees'
# The test tiles stand for the validation tiles, after the last epoch.
TESTED = {
    'val_dataloader.dataset.ann_file': 'annotations/instances_test.json',
    'val_dataloader.dataset.data_prefix.img': 'images/test/',
    'val_evaluator.ann_file': 'data/trees/annotations/instances_test.json',
    'train_cfg.val_interval': 16,
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
}
DETECTION = {
    'box AP50': average('coco/bbox_mAP_50', points=100),
    'box AP': average('coco/bbox_mAP', points=100),
}


def detect(name: str, config: str = CONFIG, **options: object) -> Run:
    """Return the run of a detector, tested on the test tiles after the last epoch."""
    return Run(name, config, {**TESTED, **options})


SCAN = detect('scan', 'fcos_vmamba_b0_trees')
TREES = Study(
    'Trees in aerial photographs',
    parts(detect('ResNet-18 as large', 'baselines/fcos_resnet18_trees'), SCAN, CONFIG),
    DETECTION,
    baseline=SCAN,
)
