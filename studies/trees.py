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
# To choose a recipe: tested on the right quarter of the training image, and trained on
# tiles that end where it begins.
COLUMNS, ROWS = range(17), range(19)  # of its tiles, every 128 pixels
LEFT = [len(COLUMNS) * row + column for row in ROWS for column in COLUMNS[:13]]
RIGHT = [len(COLUMNS) * row + column for row in ROWS[:-1:2] for column in (14, 16)]
HELD_OUT = {
    'train_dataloader.dataset.indices': LEFT,
    'val_dataloader.dataset.ann_file': 'annotations/instances_train.json',
    'val_dataloader.dataset.data_prefix.img': 'images/train/',
    'val_dataloader.dataset.indices': RIGHT,
    # The boxes come with the images, because the file has those of all tiles.
    'val_dataloader.dataset.pipeline.3.meta_keys': (
        'img_id',
        'img_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
        'instances',
    ),
    'val_evaluator.ann_file': None,
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
    'Trees: parts of the detector',
    parts(
        detect('ResNet-18 of equal size', 'baselines/fcos_resnet18_trees'), SCAN, CONFIG
    ),
    DETECTION,
    baseline=SCAN,
)
