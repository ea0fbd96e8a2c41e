# SPDX-License-Identifier: Apache-2.0
"""All studies, and those of the embedded dataset."""

from collections.abc import Callable

from .boosters import BOOSTERS
from .fashion import FASHION, TUNING_FASHION
from .networks import (
    BEGUN,
    SEGMENTOR,
    TWO_STAGES,
    at_rate,
    backbone,
    corner,
    for_epochs,
    lora,
    one_stage,
    segment,
    segment_some,
    without_scan,
)
from .parts import S, T
from .relatives import DISCS, RELATIVES
from .run import Run
from .study import Study, average
from .trees import TREES
from .tuning_trees import TUNING_TREES
from .vim import TUNING_VIM

DETECTOR = 'mask_rcnn_mamba_adaptor_b0_shapes'
CLASSIFIER = 'mamba_adaptor_b0_shapes'
PAIRS = dict(
    discs=('disc_off', 'disc_on'), stripes=('columns', 'rows'), stars=('star5', 'star6')
)
DETECTION = {
    'box AP': average('coco/bbox_mAP', points=100),
    'mask AP': average('coco/segm_mAP', points=100),
}
BY_PAIR = {
    f'{pair}, mask AP': average(
        *(f'coco/{name}_precision' for name in names), points=100
    )
    for pair, names in PAIRS.items()
}
SEGMENTATION = {'mIoU': average('mIoU')} | {
    f'{pair}, IoU': average(*(f'IoU_{name}' for name in names))
    for pair, names in PAIRS.items()
}

WITH_SCAN = Run('scan', DETECTOR, backbone())
PARTS = Study(
    'Drawn shapes: parts of the detector',
    (
        Run('untrained', DETECTOR, trained=False),
        Run('no scan', DETECTOR, without_scan(backbone())),
        WITH_SCAN,
        Run('scan, T and S', DETECTOR),
    ),
    {'box AP': DETECTION['box AP']} | BY_PAIR,
    baseline=WITH_SCAN,
)

BOTH = T | S
PLAIN_CORNER = corner('scan')
CORNERS = Study(
    'A cue in no row or column',
    (
        PLAIN_CORNER,
        corner('scan, two blocks', depth=2),
        corner('scan, S, one scale', adaptors=dict(spatial=dict(dilations=(1,)))),
        corner('scan, S', adaptors=S),
        corner('scan, T, static places', adaptors=dict(temporal=dict(static=True))),
        corner('scan, T', adaptors=T),
        corner('scan, T and S', adaptors=BOTH),
    ),
    DISCS,
)

# `CORNERS` has the default: four places in each of two sequences.
VARIANTS = Study(
    'How many places and sequences a memory needs',
    tuple(
        corner(name, adaptors=dict(temporal=options))
        for name, options in {
            '1 place': dict(places=1),
            '2 places': dict(places=2),
            '8 places': dict(places=8),
            '1 sequence': dict(sequences=1),
            '4 sequences': dict(sequences=4),
        }.items()
    ),
    DISCS,
)

PLAIN = segment('scan')
ABLATION = Study(
    'What the scan and the adaptors give a segmentor from scratch',
    (
        segment('no scan', scanning=False),
        segment("scan, VMamba's start", scan_init='vmamba'),
        PLAIN,
        segment('scan, T', adaptors=T),
        segment('scan, S', adaptors=S),
        segment('scan, T and S', adaptors=BOTH),
    ),
    SEGMENTATION,
)

BOOSTER = Study(
    'A trained base, trained on with and without adaptors',
    (
        PLAIN,
        segment('base, trained on', PLAIN),
        segment('base, trained on with adaptors', PLAIN, adaptors=BOTH),
    ),
    SEGMENTATION,
)
RAISED = corner('with T', PLAIN_CORNER, adaptors=T)
BOOSTER_CORNERS = Study(
    'The same with a base that lacks a memory',
    (
        PLAIN_CORNER,
        corner('base, trained on', PLAIN_CORNER),
        corner('with S', PLAIN_CORNER, adaptors=S),
        RAISED,
        # Learning rates as in the booster configs.
        Run(
            'with T, other rates divided by 10',
            SEGMENTOR,
            RAISED.options
            | {
                'optim_wrapper.optimizer.lr': 4e-4,
                'optim_wrapper.paramwise_cfg.adaptor_lr_mult': 10.0,
            },
            PLAIN_CORNER,
        ),
    ),
    DISCS,
)


def baselines(tuned: Callable[..., Run], **shape: object) -> tuple[Run, ...]:
    """Return the runs of the baseline tuning methods.

    Args:
        tuned: Function that creates a run from a name, a learning rate, overrides and
            arguments of the backbone.
        shape: Backbone arguments that define its size.
    """
    return (
        tuned('everything', 4e-3),
        tuned('head', 2e-2, trainable=[]),
        tuned('biases and norms', 2e-2, trainable=['biases', 'norms']),
        tuned('LoRA', 1e-2, lora(**shape)),
    )


def tuning(new: str, rate_with_norms: float) -> Study:
    """Return the study of tuning a base network to a new pair of classes.

    Args:
        new: Key of the pair in `PAIRS`; the base network is trained on the others.
        rate_with_norms: Learning rate for tuning adaptors and norms; the best value
            differs between pairs.
    """
    base = segment_some(
        'base',
        tuple(name for pair, names in PAIRS.items() if pair != new for name in names),
    )

    def tuned(
        name: str, rate: float, options: dict | None = None, **settings: object
    ) -> Run:
        return segment_some(
            name,
            PAIRS[new],
            base,
            {**at_rate(rate), **(options or {})},
            **BEGUN,
            **settings,
        )

    column = f'{new}, IoU'
    return Study(
        f'Ways to tune a trained base: {new}',
        (
            *baselines(tuned, **TWO_STAGES),
            tuned('adaptors', 2e-2, trainable=['adaptors'], adaptors=BOTH),
            tuned(
                'shared adaptors',
                2e-2,
                trainable=['adaptors'],
                adaptors=dict(BOTH, share=True),
            ),
            tuned(
                'adaptors and norms',
                rate_with_norms,
                trainable=['adaptors', 'norms'],
                adaptors=BOTH,
            ),
        ),
        {column: SEGMENTATION[column]},
        share=True,
    )


def tuning_corners() -> Study:
    """Return the study of tuning a base network without memory to another lamp."""
    base = corner('base')
    below = dict(decides=3)  # the lower right lamp

    def tuned(
        name: str, rate: float, options: dict | None = None, **settings: object
    ) -> Run:
        plain = corner(name, data=below, **BEGUN, **settings)
        return Run(
            name, SEGMENTOR, plain.options | at_rate(rate) | (options or {}), base
        )

    return Study(
        'Ways to tune a base that lacks a memory',
        (
            *baselines(tuned, **one_stage()),
            tuned('T', 2e-2, trainable=['adaptors'], adaptors=T),
            tuned('T and S', 2e-2, trainable=['adaptors'], adaptors=BOTH),
        ),
        DISCS,
        share=True,
    )


TUNING = {
    f'tuning_{new}': tuning(new, rate)
    for new, rate in dict(discs=1e-2, stripes=2e-2).items()
}
TUNING['tuning_corners'] = tuning_corners()

CLASSES = Run('classifier', CLASSIFIER)
PRETRAINED = {
    f'model.backbone.init_cfg.{key}': value for key, value in BEGUN['init_cfg'].items()
}
TRANSFER = Study(
    'What pretraining as a classifier gives after an epoch',
    (
        Run('detector, from scratch', DETECTOR, for_epochs(1)),
        Run(
            'detector, pretrained', DETECTOR, for_epochs(1) | PRETRAINED, after=CLASSES
        ),
        Run('segmentor, from scratch', SEGMENTOR, for_epochs(1)),
        Run(
            'segmentor, pretrained',
            SEGMENTOR,
            for_epochs(1) | PRETRAINED,
            after=CLASSES,
        ),
    ),
    DETECTION | {'mIoU': average('mIoU')},
)

STUDIES = dict(
    parts=PARTS,
    ablation=ABLATION,
    corners=CORNERS,
    variants=VARIANTS,
    booster=BOOSTER,
    booster_corners=BOOSTER_CORNERS,
    **TUNING,
    transfer=TRANSFER,
    fashion=FASHION,
    trees=TREES,
    **TUNING_FASHION,
    **TUNING_VIM,
    **TUNING_TREES,
    **BOOSTERS,
    **RELATIVES,
)
