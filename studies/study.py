# SPDX-License-Identifier: Apache-2.0
"""A study: its runs and metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import mean

from mmadaptor.errors import InputError

from .run import Run

Metrics = Mapping[str, float]
Column = Callable[[Metrics], float]


@dataclass(frozen=True)
class Study:
    """A comparison of runs.

    Args:
        title: Title of the plot.
        runs: Rows of the table.
        columns: Columns of the table: functions that map the recorded metrics to
            points. A run may lack metrics.
        share: Whether to add a column with the share of trainable parameters.
        cost: Whether to add a column with the multiply-adds of an image.
        baseline: Run that the others are compared with, one of `runs`.
    """

    title: str
    runs: tuple[Run, ...]
    columns: Mapping[str, Column]
    share: bool = False
    cost: bool = False
    baseline: Run | None = None

    def against(self, name: str) -> 'Study':
        """Return the study with another baseline.

        Args:
            name: Name of one of `runs`.

        Raises:
            InputError: There is no such run.
        """
        runs = {run.name: run for run in self.runs}
        if name not in runs:
            raise InputError(
                f'`--against` must be a row of the table ({"; ".join(runs)}), '
                f'got {name!r}'
            )
        return replace(self, baseline=runs[name])


def average(*names: str, points: float = 1.0) -> Column:
    """Return a column that averages metrics.

    Args:
        names: Names of the metrics.
        points: Scale from the metric to points.
    """
    return lambda metrics: points * mean(metrics[name] for name in names)
