# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T beside its nearest relatives, at about equal multiply-adds."""

from collections.abc import Callable

from .networks import corner
from .run import Run
from .study import Study, average
from .trees import DETECTION, T, detect

COUNTED = {'counted': True}
LAYERS = {'static fusion of states': 'fusion', 'neighbourhood attention': 'attention'}


def relatives(title: str, run: Callable[..., Run], columns: dict) -> Study:
    """Return the study of a network without and with T, and with its relatives.

    Args:
        title: Title of the plot.
        run: Function that creates a run from a name and arguments of the backbone.
        columns: Columns of the table.
    """
    adapted = run('scan, T', adaptors=T)
    others = (
        run(f'scan, {name}', type='mmadaptor.RelatedVMamba', layer=layer)
        for name, layer in LAYERS.items()
    )
    return Study(
        title, (run('scan'), adapted, *others), columns, cost=True, baseline=adapted
    )


def on_corners(name: str, **settings: object) -> Run:
    """Return the run of a segmentor of `corners`."""
    run = corner(name, **settings)
    imports = [*run.options['custom_imports.imports'], 'studies.state_layers']
    return Run(
        name, run.config, run.options | COUNTED | {'custom_imports.imports': imports}
    )


def on_trees(name: str, **settings: object) -> Run:
    """Return the run of a detector of trees."""
    return detect(
        name,
        'fcos_vmamba_b0_trees',
        **{f'model.backbone.{key}': value for key, value in settings.items()},
        **{
            'custom_imports.imports': [
                'mmadaptor',
                'mmadaptor.engine',
                'studies.state_layers',
            ]
        },
        **COUNTED,
    )


DISCS = {'discs, IoU': average('IoU_disc_off', 'IoU_disc_on')}
RELATIVES = dict(
    relatives_corners=relatives('Corners: T and its relatives', on_corners, DISCS),
    relatives_trees=relatives('Trees: T and its relatives', on_trees, DETECTION),
)
