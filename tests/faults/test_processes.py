# SPDX-License-Identifier: Apache-2.0
"""A process of a job is killed: the job ends soon, in a sentence, and resumes."""

import re
import time

from helpers.jobs import TOY, tool, write_config

KILLED_WORKER = """
train_dataloader['dataset'] = dict(type='KillDataset')
"""
UNUSED = '\nfind_unused_parameters = True'
KILL = '\ncustom_hooks = [dict(type="KillHook", after=3, rank=0)]'


def test_a_killed_data_worker_ends_the_job(tmp_path):
    run = tmp_path / 'run'
    config = write_config(tmp_path, TOY + KILLED_WORKER, work_dir=str(run))
    start = time.monotonic()
    ended = tool('train', config)
    assert time.monotonic() - start < 60
    assert ended.returncode == 1
    said = (
        r'error: DataLoader worker \(pid.*?(is killed|exited).*\. If memory ran out, '
    )
    assert re.search(said, ended.stderr), ended.stderr
    good = write_config(tmp_path, TOY, 'good.py', work_dir=str(run))
    assert tool('train', good, '--resume').returncode == 0


def test_a_killed_process_ends_the_job(tmp_path):
    """The one that saves; tests/tools/test_distributed.py kills the other."""
    run = tmp_path / 'run'
    text = TOY + UNUSED + KILL
    config = write_config(tmp_path, text, work_dir=str(run))
    start = time.monotonic()
    ended = tool('dist_train.sh', config, 2)
    assert time.monotonic() - start < 60
    assert ended.returncode != 0
    assert 'Signal 9 (SIGKILL) received by PID' in ended.stderr
    assert ': Traceback' not in ended.stderr  # of another rank
    good = write_config(tmp_path, TOY + UNUSED, 'good.py', work_dir=str(run))
    resumed = tool('dist_train.sh', good, 2, '--resume')
    assert resumed.returncode == 0, resumed.stderr
