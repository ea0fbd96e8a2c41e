# SPDX-License-Identifier: Apache-2.0
"""One run of a study: its config, its process, its record."""

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
RECORD = 'record.json'


@dataclass(frozen=True, eq=False)
class Run:
    """A training, once a seed.

    Args:
        name: What the tables call it.
        config: The config that it is made from, in `configs/` without `.py`.
        options: What is changed in it, as `Config.merge_from_dict` takes it;
            `'{checkpoint}'` stands for what `after` left.
        after: A run with whose checkpoint it begins.
        trained: Whether it is trained, or tested as it starts.
    """

    name: str
    config: str
    options: dict = field(default_factory=dict)
    after: 'Run | None' = None
    trained: bool = True

    def folder(self, out: Path, seed: int) -> Path:
        """Where one of its trainings is.

        Args:
            out: The study's folder.
            seed: The training's seed.

        Returns:
            The folder.
        """
        return out / re.sub(r'\W+', '_', self.name) / str(seed)

    def make_config(self, folder: Path, seed: int, checkpoint: str) -> Config:
        """The whole config of one of its trainings.

        Args:
            folder: The training's folder.
            seed: The training's seed.
            checkpoint: What stands for `'{checkpoint}'`.

        Returns:
            The config.
        """
        cfg = Config.fromfile(f'configs/{self.config}.py')
        cfg.merge_from_dict(_filled(self.options, checkpoint))
        cfg.merge_from_dict(
            dict(work_dir=str(folder), randomness=dict(seed=seed), trained=self.trained)
        )
        return cfg


def config_of(folder: Path) -> Path:
    """Where a training's config is: beside its folder; mmengine writes in it.

    Args:
        folder: The training's folder.

    Returns:
        The file.
    """
    return folder.with_suffix('.py')


def _filled(node: Any, checkpoint: str) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, checkpoint) for key, value in node.items()}
    return checkpoint if node == CHECKPOINT else node


def launch(
    run: Run, out: Path, seed: int, threads: int, before: 'Future[dict] | None'
) -> dict:
    """The record of a run, after its training if none by this config is there.

    Args:
        run: The run.
        out: The study's folder.
        seed: The training's seed.
        threads: Threads it may use.
        before: The record of the run that it comes after.

    Returns:
        What `train.py` recorded.

    Raises:
        InputError: The training failed.
    """
    folder = run.folder(out, seed)
    checkpoint = before.result()['checkpoint'] if before else ''
    config = run.make_config(folder, seed, checkpoint).pretty_text
    path = config_of(folder)
    # Trained again, a base is another one under the same name.
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
            raise InputError(f'{run.name}, seed {seed}, failed: see {log}')
        print(f'done: {folder}', flush=True)
    return json.loads((folder / RECORD).read_text())


def run_all(
    runs: tuple[Run, ...], out: Path, seeds: int, jobs: int
) -> dict[Run, list[dict]]:
    """Trains what is missing.

    Args:
        runs: The runs; those that they come after are trained as well.
        out: The study's folder.
        seeds: How many seeds, from 0.
        jobs: Trainings at a time, a thread each if more than one.

    Returns:
        The records of each of `runs`, by seed.

    Raises:
        InputError: A training failed.
    """
    threads = 1 if jobs > 1 else os.cpu_count() or 1
    started: dict[tuple[Run, int], Future[dict]] = {}
    with ThreadPoolExecutor(jobs) as pool:

        def start(run: Run, seed: int) -> 'Future[dict]':
            if (run, seed) not in started:
                # First in the queue, so that who waits for it never blocks it.
                before = start(run.after, seed) if run.after else None
                started[run, seed] = pool.submit(
                    launch, run, out, seed, threads, before
                )
            return started[run, seed]

        # Those that wait for another last: they hold a job as they do.
        for run in sorted(
            (*runs, *(run.after for run in runs if run.after)),
            key=lambda run: run.after is not None,
        ):
            for seed in range(seeds):
                start(run, seed)
    return {run: [started[run, seed].result() for seed in range(seeds)] for run in runs}
