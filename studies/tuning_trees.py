# SPDX-License-Identifier: Apache-2.0
"""Tuning for detection: a classifier of drawn shapes becomes a detector of trees.

The networks of both have the size b0. Neck, head and the output norms of the backbone,
which the classifier lacks, train in each run.
"""

from .networks import BEGUN, at_rate, backbone
from .parts import S, T
from .run import Run
from .study import Study
from .trees import DETECTION, HELD_OUT, detect

CONFIG = 'fcos_vmamba_b0_trees'
BASE = Run('base', 'mamba_adaptor_b0_shapes', backbone(out_indices=(3,)))
OUTPUTS = r'^norm\d\.'
RATES = (6e-4, 2e-3, 6e-3)


def trains(*parts: str, **settings: object) -> dict:
    """Return the arguments of a backbone of which `parts` and the outputs train."""
    return dict(trainable=[*parts, OUTPUTS], **settings)


def of_others(method: str) -> dict:
    """Return the arguments of a backbone with the layers of another paper."""
    return trains(type='mmadaptor.TunedVMamba', method=method)


# The best of `RATES`, by `tuning_trees_rates`, and arguments of the backbone.
METHODS = {
    'full': (2e-3, dict()),
    'frozen': (6e-4, trains()),
    'norms': (2e-3, trains('norms')),
    'LoRA': (2e-3, of_others('lora')),
    'Mona-like': (6e-4, of_others('mona')),
    'T and S': (2e-3, trains('adaptors', adaptors=T | S)),
    'T and S, norms': (6e-4, trains('adaptors', 'norms', adaptors=T | S)),
}


def tuned(name: str, rate: float, settings: dict, **options: object) -> Run:
    """Return the run of a method.

    Args:
        name: Name of the run.
        rate: Learning rate, also of neck and head.
        settings: Arguments of the backbone.
        options: Further overrides.
    """
    run = detect(
        name,
        CONFIG,
        **{f'model.backbone.{k}': v for k, v in {**settings, **BEGUN}.items()},
        **{
            'custom_imports.imports': [
                'mmadaptor',
                'mmadaptor.engine',
                'studies.tuning_layers',
            ]
        },
        **at_rate(rate),
        **options,
    )
    return Run(name, run.config, run.options, BASE)


FULL, *OTHERS = (tuned(name, *method) for name, method in METHODS.items())
TUNING_TREES = dict(
    tuning_trees=Study(
        'Trees: ways to tune a classifier of drawn shapes',
        (detect('from scratch', CONFIG), FULL, *OTHERS),
        DETECTION,
        share=True,
        baseline=FULL,
    ),
    tuning_trees_rates=Study(
        'Learning rates of the tuned detector',
        tuple(
            tuned(f'{name}, {rate:g}', rate, settings, **HELD_OUT)
            for name, (_, settings) in METHODS.items()
            for rate in RATES
        ),
        DETECTION,
        share=True,
    ),
)
