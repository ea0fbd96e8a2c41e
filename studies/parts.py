# SPDX-License-Identifier: Apache-2.0
"""The rows that show what each part of a backbone gives a network of real images."""

from .run import Run

T, S = dict(temporal=dict()), dict(spatial=dict())


def adapted(name: str, config: str, options: dict, **adaptors: dict) -> Run:
    """Return the run of a network with some adaptors.

    Args:
        name: Name of the run.
        config: Config of the network with both adaptors.
        options: Overrides.
        adaptors: The adaptors.
    """
    return Run(name, config, {**options, 'model.backbone.adaptors': adaptors})


def parts(resnet: Run, scan: Run, config: str) -> tuple[Run, ...]:
    """Return the runs without scan, with it, and with adaptors.

    Args:
        resnet: Run of a ResNet of equal size, the first row.
        scan: Run of the network without adaptors.
        config: Config of the network with both adaptors, which gets the options of
            `scan`.
    """
    convolutional = {
        'model.backbone.type': 'mmadaptor.ConvolutionalVMamba',
        'custom_imports.imports': [
            'mmadaptor',
            'mmadaptor.engine',
            'benchmarks.convolutional_vmamba',
        ],
    }
    rows = {
        'scan, T': T,
        'scan, S': S,
        'scan, T and S': T | S,
        'scan, static T': dict(temporal=dict(static=True)),
        'scan, S of one scale': dict(spatial=dict(dilations=(1,))),
    }
    return (
        resnet,
        Run('no scan', scan.config, scan.options | convolutional),
        scan,
        *(adapted(name, config, scan.options, **row) for name, row in rows.items()),
    )
