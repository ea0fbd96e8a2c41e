# SPDX-License-Identifier: Apache-2.0
"""Adaptor-T beside its nearest relatives, at about equal multiply-adds."""

from .networks import corner
from .parts import T, adapted
from .run import Run
from .study import Study, average
from .trees import CONFIG, DETECTION, SCAN

LAYERS = {'static fusion of states': 'fusion', 'neighborhood attention': 'attention'}


def related(run: Run, name: str, layer: str) -> Run:
    """Return a run whose backbone has the layer of another paper.

    Args:
        run: The run of the backbone without adaptors.
        name: Name of the layer.
        layer: Key of `state_layers.LAYERS`.
    """
    imports = 'custom_imports.imports'
    options = {
        **run.options,
        imports: [
            *run.options.get(imports, ('mmadaptor', 'mmadaptor.engine')),
            'studies.state_layers',
        ],
        'model.backbone.type': 'mmadaptor.RelatedVMamba',
        'model.backbone.layer': layer,
    }
    return Run(f'scan, {name}', run.config, options)


def relatives(title: str, plain: Run, with_t: Run, columns: dict) -> Study:
    """Return the study of a network without and with T, and with its relatives.

    Args:
        title: Title of the plot.
        plain: The run of the network.
        with_t: The run of the network with T.
        columns: Columns of the table.
    """
    others = (related(plain, name, layer) for name, layer in LAYERS.items())
    return Study(title, (plain, with_t, *others), columns, cost=True, baseline=with_t)


DISCS = {'discs, IoU': average('IoU_disc_off', 'IoU_disc_on')}
RELATIVES = dict(
    relatives_corners=relatives(
        'Corners: T and its relatives',
        corner('scan'),
        corner('scan, T', adaptors=T),
        DISCS,
    ),
    relatives_trees=relatives(
        'Trees: T and its relatives',
        SCAN,
        adapted('scan, T', CONFIG, SCAN.options, **T),
        DETECTION,
    ),
)
