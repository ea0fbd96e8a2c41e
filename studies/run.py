# SPDX-License-Identifier: Apache-2.0
"""Runs of a study: config, process and record."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmadaptor.errors import InputError

CHECKPOINT = '{checkpoint}'
SEED = '{seed}'
RECORD = 'record.json'


@dataclass(frozen=True, eq=False)
class Run:
    """A configuration to train, once per seed.

    Args:
        name: Name in tables and plots.
        config: Base config in `configs/`, without `.py`.
        options: Overrides for `Config.merge_from_dict`; `'{checkpoint}'` is replaced
            by the checkpoint of `after`, `'{seed}'` by the seed.
        after: Run whose checkpoint it starts from.
        trained: True to train; False to test the untrained model.
    """

    name: str
    config: str
    options: dict = field(default_factory=dict)
    after: 'Run | None' = None
    trained: bool = True

    def folder(self, out: Path, seed: int) -> Path:
        """Return the folder of the run with this seed, below the study's folder."""
        return out / re.sub(r'\W+', '_', self.name) / str(seed)

    def make_config(self, folder: Path, seed: int, checkpoint: str) -> Config:
        """Build the complete config for one seed.

        Args:
            folder: Work directory.
            seed: Random seed.
            checkpoint: Replacement for `'{checkpoint}'`.
        """
        cfg = Config.fromfile(f'configs/{self.config}.py')
        values = {CHECKPOINT: checkpoint, SEED: seed}
        cfg.merge_from_dict(_filled(self.options, values))
        cfg.merge_from_dict(
            dict(work_dir=str(folder), randomness=dict(seed=seed), trained=self.trained)
        )
        return cfg


def config_of(folder: Path) -> Path:
    """Return the config file of a run: next to its folder, where mmengine writes."""
    return folder.with_suffix('.py')


def _filled(node: Any, values: dict[str, Any]) -> Any:
    """Replace placeholders by their values."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    return values.get(node, node) if isinstance(node, str) else node


def launch(
    run: Run, out: Path, seed: int, threads: int, before: 'Future[dict] | None'
) -> dict:
    """Train a run, unless it has a record for the same config, and return the record.

    Args:
        run: The run.
        out: Folder of the study.
        seed: Random seed.
        threads: Number of threads of the process.
        before: Record of the run `run.after`, if any.

    Returns:
        The record written by `studies.train`.

    Raises:
        InputError: If training fails.
    """
    folder = run.folder(out, seed)
    checkpoint = before.result()['checkpoint'] if before else ''
    config = run.make_config(folder, seed, checkpoint).pretty_text
    path = config_of(folder)
    # A retrained base run has the same path but different weights, so compare times.
    made = [
        (at / RECORD).stat().st_mtime if (at / RECORD).exists() else 0.0
        for at in (folder, Path(checkpoint).parent)
    ]
    if not (
        made[0] and made[0] >= made[1] and path.exists() and path.read_text() == config
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        path.write_text(config)
        log = folder / 'output.txt'
        with log.open('w') as output:
            result = subprocess.run(
                [sys.executable, '-m', 'studies.train', str(folder)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': str(threads)},
            )
        if result.returncode:
            raise InputError(f'{run.name}, seed {seed}: training failed, see {log}')
        print(f'done: {folder}', flush=True)
    return json.loads((folder / RECORD).read_text())


def run_all(
    runs: tuple[Run, ...], out: Path, seeds: int, jobs: int
) -> dict[Run, list[dict]]:
    """Train all runs that have no up-to-date record.

    Args:
        runs: The runs; the runs that they start from are trained too.
        out: Folder of the study.
        seeds: Number of seeds, counted from 0.
        jobs: Number of parallel runs; if more than 1, each uses one thread. A single
            one uses `OMP_NUM_THREADS`, or all cores.

    Returns:
        Records of each of `runs`, one per seed.

    Raises:
        InputError: If a training fails.
    """
    asked = os.environ.get('OMP_NUM_THREADS')
    threads = 1 if jobs > 1 else int(asked or os.cpu_count() or 1)
    started: dict[tuple[Run, int], Future[dict]] = {}
    with ThreadPoolExecutor(jobs) as pool:

        def start(run: Run, seed: int) -> 'Future[dict]':
            if (run, seed) not in started:
                # Queue the base run first, so that runs waiting for it cannot block it.
                before = start(run.after, seed) if run.after else None
                started[run, seed] = pool.submit(
                    launch, run, out, seed, threads, before
                )
            return started[run, seed]

        # Runs that wait for another come last, because waiting occupies a worker.
        for run in sorted(
            (*runs, *(run.after for run in runs if run.after)),
            key=lambda run: run.after is not None,
        ):
            for seed in range(seeds):
                start(run, seed)
    return {run: [started[run, seed].result() for seed in range(seeds)] for run in runs}
