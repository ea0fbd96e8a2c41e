# SPDX-License-Identifier: Apache-2.0
"""What adaptors give a trained base on real images, against as much more training."""

from collections.abc import Mapping

from . import fashion
from .fashion import ACCURACY
from .parts import S, T
from .run import CHECKPOINT, Run
from .study import Column, Study
from .trees import DETECTION, SCAN


def raised(name: str, base: Run, **adaptors: dict) -> Run:
    """Return the run that trains a base for as long again.

    Args:
        name: Name of the run.
        base: The run that it starts from.
        adaptors: Adaptors that are added; they start as the identity.
    """
    options = {
        **base.options,
        'load_from': CHECKPOINT,
        'default_hooks.strict_load.optional': [r'\.(temporal|spatial)\.'],
    }
    if adaptors:
        options['model.backbone.adaptors'] = adaptors
    return Run(name, base.config, options, base)


def booster(title: str, base: Run, columns: Mapping[str, Column]) -> Study:
    """Return the study of a base that is trained on with and without adaptors."""
    plain = raised('base, trained on', base)
    return Study(
        title,
        (
            base,
            plain,
            raised('with T', base, **T),
            raised('with S', base, **S),
            raised('with T and S', base, **T, **S),
        ),
        columns,
        baseline=plain,
    )


CLASSIFIER = Run('base', fashion.SCAN.config, fashion.SCAN.options)
DETECTOR = Run('base', SCAN.config, SCAN.options)
BOOSTERS = dict(
    booster_fashion=booster('Clothes: booster', CLASSIFIER, ACCURACY),
    booster_trees=booster('Trees: booster', DETECTOR, DETECTION),
)
