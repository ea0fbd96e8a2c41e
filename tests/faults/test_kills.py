# SPDX-License-Identifier: Apache-2.0
"""A training is killed at any moment; resumed, it is as if nothing had been."""

import json
import os
import random
import signal
import time

import pytest
import torch
from helpers.fork_server import ForkServer
from helpers.jobs import TOY, write_config

# How many moments.
KILLS = int(os.environ.get('KILLS', 30))
# Iterations and validations that take a while, and a best checkpoint.
OPTIONS = """
custom_hooks = [dict(type='SlowHook')]
default_hooks = dict(checkpoint=dict(
    type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='mAP',
    rule='greater'))
"""
BY_ITERATION = """
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=12, val_interval=3)
train_dataloader.update(sampler=dict(type='InfiniteSampler', shuffle=True))
default_hooks['checkpoint'].update(interval=3, by_epoch=False)
default_hooks.update(logger=dict(type='LoggerHook', log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
""".replace('_delete_=True, ', '')
LAST = dict(epochs='epoch_3.pth', iterations='iter_12.pth')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    server = ForkServer(tmp_path_factory.mktemp('server'))
    yield server
    server.close()


def train(server, config, run, kill_after=None):
    """Trains or resumes; returns the exit code and the time."""
    run.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    log = run / f'output_{start}.txt'
    process = server.start('train', config, '--work-dir', run, '--resume', log=log)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    code = server.wait()
    assert code in (0, -signal.SIGKILL), log.read_text()[-3000:]
    return code, time.monotonic() - start


@pytest.fixture(scope='module', params=LAST)
def job(request, server, tmp_path_factory):
    """A config, its run that nothing stopped, and how long that took."""
    folder = tmp_path_factory.mktemp(request.param)
    text = TOY.format(work_dir=str(folder / 'run')) + OPTIONS
    text += BY_ITERATION if request.param == 'iterations' else ''
    config = write_config(folder, text)
    assert train(server, config, folder / 'run')[0] == 0
    code, seconds = train(server, config, folder / 'again')
    assert code == 0
    assert_as_unbroken(folder / 'again', folder / 'run', LAST[request.param])
    assert len(results(folder / 'run')) >= 3
    return folder, config, LAST[request.param], seconds


def results(run):
    """Returns the recorded results of each validation, by its step."""
    found = {}
    for record in run.glob('*/vis_data/scalars.json'):
        for line in map(json.loads, record.read_text().splitlines()):
            if 'mAP' in line:
                found.setdefault(line['step'], set()).add(line['mAP'])
    return found


def assert_as_unbroken(run, unbroken, last):
    """The same weights, optimizer, schedule, results and best, and nothing else."""
    got, expected = (torch.load(r / last, weights_only=False) for r in (run, unbroken))
    assert got['meta']['iter'] == expected['meta']['iter']
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        torch.testing.assert_close(got.get(key), expected.get(key), rtol=0, atol=0)
    info = [c['message_hub']['runtime_info'] for c in (got, expected)]
    assert info[0]['best_score'] == info[1]['best_score']
    assert results(run) == results(unbroken)
    assert all(len(values) == 1 for values in results(run).values())
    names = [{p.name for p in r.iterdir() if '.pth' in p.name} for r in (run, unbroken)]
    assert names[0] == names[1]
    best = [
        torch.load(next(r.glob('best*')), weights_only=False) for r in (run, unbroken)
    ]
    torch.testing.assert_close(*(b['state_dict'] for b in best), rtol=0, atol=0)


def test_killed_at_random_moments(job, server):
    folder, config, last, seconds = job
    killed = 0
    for seed in range(KILLS // 2):
        draw, run = random.Random(seed), folder / f'killed_{seed}'
        # Once or twice, anywhere from the start to the end.
        for _ in range(draw.choice([1, 1, 2])):
            code, _ = train(server, config, run, draw.uniform(0, seconds))
            killed += code != 0
        assert train(server, config, run)[0] == 0
        assert_as_unbroken(run, folder / 'run', last)
    assert killed >= KILLS // 4
