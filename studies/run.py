# SPDX-License-Identifier: Apache-2.0
"""Runs of a study: config, process and record."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
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

    Runs of the same configuration share a folder, so that studies share what they
    train.

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

    @cached_property
    def key(self) -> str:
        """Name of its folder: base config and digest of the complete one."""
        before = self.after.key if self.after else ''
        text = before + repr(self.make_config(Path(), 0, before).to_dict())
        return f'{Path(self.config).name}_{sha256(text.encode()).hexdigest()[:8]}'

    @property
    def link(self) -> str:
        """Name of the link to its folder in the folder of a study."""
        return re.sub(r'\W+', '_', self.name)

    def make_config(self, folder: Path, seed: int, checkpoint: str) -> Config:
        """Build the complete config for one seed.

        Args:
            folder: Work directory.
            seed: Random seed.
            checkpoint: Replacement for `'{checkpoint}'`.
        """
        cfg = deepcopy(_read(self.config))
        values = {CHECKPOINT: checkpoint, SEED: seed}
        cfg.merge_from_dict(_filled(self.options, values))
        cfg.merge_from_dict(
            dict(work_dir=str(folder), randomness=dict(seed=seed), trained=self.trained)
        )
        return cfg


@cache
def _read(config: str) -> Config:
    """Read a config of `configs/` once."""
    return Config.fromfile(f'configs/{config}.py')


def config_of(folder: Path) -> Path:
    """Return the config file of a run: next to its folder, where mmengine writes."""
    return folder.with_suffix('.py')


def _filled(node: Any, values: dict[str, Any]) -> Any:
    """Replace placeholders by their values."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    return values.get(node, node) if isinstance(node, str) else node


def launch(
    run: Run, folder: Path, seed: int, threads: int, before: 'Future[dict] | None'
) -> dict:
    """Train a run, unless it has a record, and return the record.

    Args:
        run: The run.
        folder: Folder of the run with this seed.
        seed: Random seed.
        threads: Number of threads of the process.
        before: Record of the run `run.after`, if any.

    Returns:
        The record written by `studies.train`.

    Raises:
        InputError: If training fails.
    """
    checkpoint = before.result()['checkpoint'] if before else ''
    # A retrained base run has the same path but different weights, so compare times.
    made = [
        (at / RECORD).stat().st_mtime if (at / RECORD).exists() else 0.0
        for at in (folder, Path(checkpoint).parent)
    ]
    if not made[0] or made[0] < made[1]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        config = run.make_config(folder, seed, checkpoint)
        config_of(folder).write_text(config.pretty_text)
        log = folder / 'output.txt'
        with log.open('w') as output:
            result = subprocess.run(
                [sys.executable, '-m', 'studies.train', str(folder)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': str(threads)},
            )
        if result.returncode:
            _, told, reason = log.read_text().rpartition('\nerror: ')
            text = f'{run.name}, seed {seed}: training failed, see {log}'
            raise InputError(f'{text}\n{reason.strip()}' if told else text)
        print(f'done: {folder}', flush=True)
    record = json.loads((folder / RECORD).read_text())
    if record['checkpoint']:
        # By its name: the folder may have been moved.
        record['checkpoint'] = str(folder / Path(record['checkpoint']).name)
    return record


def link(path: Path, target: Path) -> None:
    """Make or renew a relative symbolic link.

    Raises:
        InputError: There is something else at the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_symlink():
        raise InputError(
            f'{path} should be a link to the folder of a run, but something else is '
            'there, as before studies shared runs: remove it, or choose another --out'
        )
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def run_all(
    runs: tuple[Run, ...], out: Path, seeds: int, jobs: int
) -> dict[Run, list[dict]]:
    """Train all runs that have no up-to-date record.

    Args:
        runs: The runs; the runs that they start from are trained too.
        out: Folder of the study. It gets a link to the folder of each run, which is in
            `runs` beside it.
        seeds: Number of seeds, counted from 0.
        jobs: Number of parallel runs; if more than 1, each uses one thread. A single
            one uses `OMP_NUM_THREADS`, or all cores.

    Returns:
        Records of each of `runs`, one per seed.

    Raises:
        InputError: If a training fails; the others are finished first.
        KeyboardInterrupt: The user interrupted; no further run begins.
    """
    asked = os.environ.get('OMP_NUM_THREADS')
    threads = 1 if jobs > 1 else int(asked or os.cpu_count() or 1)
    started: dict[tuple[str, int], Future[dict]] = {}
    pool = ThreadPoolExecutor(jobs)

    def start(run: Run, seed: int) -> 'Future[dict]':
        if (run.key, seed) not in started:
            # Queue the base run first, so that runs waiting for it cannot block it.
            before = start(run.after, seed) if run.after else None
            folder = out.parent / 'runs' / run.key / str(seed)
            started[run.key, seed] = pool.submit(
                launch, run, folder, seed, threads, before
            )
        return started[run.key, seed]

    try:
        everything = (*runs, *(run.after for run in runs if run.after))
        for run in everything:
            link(out / run.link, out.parent / 'runs' / run.key)
        # Runs that wait for another come last, because waiting occupies a worker. A
        # study that is stopped has whole seeds.
        for waits in (False, True):
            for seed in range(seeds):
                for run in everything:
                    if (run.after is not None) == waits:
                        start(run, seed)
        wait(started.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return {
        run: [started[run.key, seed].result() for seed in range(seeds)] for run in runs
    }
