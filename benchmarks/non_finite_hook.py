# SPDX-License-Identifier: Apache-2.0
"""Measure NonFiniteHook's share of the time of a training step.

Usage: python -m benchmarks.non_finite_hook CONFIG [--steps 20]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

from mmengine.hooks import Hook

from mmadaptor.arguments import positive
from mmadaptor.engine import NonFiniteHook
from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    load_config,
    run,
)

WARM_UP = 4  # steps


class Enough(Exception):
    """The steps are measured."""


class StepTimes(Hook):
    """Measures each step, and the part of it that the hook takes.

    Args:
        steps: How many are measured.
    """

    priority = 'LOWEST'  # registered last: runs after NonFiniteHook

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.inside = self.last = 0.0
        self.rows: list[tuple[float, float]] = []
        for name in ('_before_step', 'after_train_iter'):
            setattr(NonFiniteHook, name, self._timed(getattr(NonFiniteHook, name)))

    def _timed(self, function: Callable) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.inside += time.perf_counter() - start
            return result

        return timed

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        """Note the step.

        Raises:
            Enough: It was the last.
        """
        now = time.perf_counter()
        self.rows.append((self.inside, now - self.last))
        self.inside, self.last = 0.0, now
        if len(self.rows) == WARM_UP + self.steps:
            raise Enough


def main() -> None:
    """Train until enough steps are measured."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config')
    parser.add_argument('--steps', type=positive, default=20, help='default: 20')
    add_common_arguments(parser)
    args = parser.parse_args()
    cfg = load_config(args)
    times = StepTimes(args.steps)
    with tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = build_runner(cfg)
        runner.register_hook(times)
        with suppress(Enough):
            runner.train()
    rows = times.rows[WARM_UP:]
    hook, step = (1e3 * median(column) for column in zip(*rows, strict=True))
    share = 100 * median(inside / whole for inside, whole in rows)
    print(f'hook {hook:.2f} ms, step {step:.0f} ms, share {share:.2f} %')


if __name__ == '__main__':
    run(main)
