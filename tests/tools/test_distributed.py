# SPDX-License-Identifier: Apache-2.0
"""Jobs of two processes on one machine, as a user starts them."""

import re

import numpy as np
import pytest
from helpers.jobs import CLASSIFIER, tool, write_coco, write_config, write_labels

pytest.importorskip('mmpretrain')

# Fixed sizes, no augmentation, no batch norm and a mean over images: two
# processes with two images each compute what one with four does.
JOB = (
    CLASSIFIER
    + """
custom_imports = dict(imports=['mmadaptor', 'mmadaptor.engine', 'helpers.toy'])
model['backbone'] = dict(
    type='mmadaptor.MambaAdaptor',
    arch=dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.))
train_cfg = dict(by_epoch=True, max_epochs=3, val_begin=3)
val_cfg, val_dataloader = test_cfg, test_dataloader
val_evaluator = dict(type='ScoreMetric')
custom_hooks = [dict(type='LossHook')]
optim_wrapper['optimizer']['lr'] = .003
randomness = dict(seed=5)
"""
)
SHARDED = (
    JOB
    + """
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(type='MMFullyShardedDataParallel', device_id='cpu'))
env_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
"""
)
IMAGES = 8


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distributed')
    root = write_coco(folder / 'data', images=IMAGES)
    write_labels(root, images=IMAGES)
    write_config(folder, JOB, data_root=str(root))
    write_config(
        folder,
        JOB + 'custom_hooks.append(dict(type="KillHook", after=3, rank=1))',
        'killed.py',
        data_root=str(root),
    )
    write_config(folder, SHARDED, 'sharded.py', data_root=str(root))
    return folder


@pytest.fixture(scope='module')
def one(folder):
    """One process with the doubled batch."""
    result = tool(
        'train',
        folder / 'config.py',
        '--work-dir',
        folder / 'one',
        '--cfg-options',
        'train_dataloader.batch_size=4',
    )
    assert result.returncode == 0, result.stderr
    return result


def losses(work_dir):
    return np.loadtxt(work_dir / 'losses.txt')


def score(result):
    return float(re.findall(r' score: ([\d.]+)', result.stdout)[-1])


def test_two_processes_learn_as_one_though_one_is_killed(folder, one):
    """Process 1 dies in epoch 2: the job ends, and resumes from epoch 1."""
    run, expected = folder / 'two', losses(folder / 'one')
    killed = tool('dist_train.sh', folder / 'killed.py', 2, '--work-dir', run)
    assert killed.returncode != 0
    assert 'SIGKILL' in killed.stderr
    assert {p.name for p in run.glob('*.pth')} == {'epoch_1.pth'}
    # float32, summed in another order.
    assert expected.shape == (6, 2) and np.ptp(expected[:, 1]) > 0.01
    np.testing.assert_allclose(losses(run)[:3], expected[:3], rtol=1e-5)

    (run / 'losses.txt').unlink()
    result = tool(
        'dist_train.sh', folder / 'config.py', 2, '--work-dir', run, '--resume'
    )
    assert result.returncode == 0, result.stderr
    assert 'resumed epoch: 1, iter: 2' in result.stdout + result.stderr
    np.testing.assert_allclose(losses(run), expected[2:], rtol=1e-5)
    assert score(result) == pytest.approx(score(one), abs=2e-4)


def test_fully_sharded_processes_learn_as_one(folder, one):
    run = folder / 'sharded'
    result = tool('dist_train.sh', folder / 'sharded.py', 2, '--work-dir', run)
    assert result.returncode == 0, result.stderr
    expected = losses(folder / 'one')[:2]
    np.testing.assert_allclose(losses(run), expected, rtol=1e-5)
    assert {p.name for p in (run / 'epoch_1.pth').iterdir()} == {
        'rank0.pth',
        'rank1.pth',
    }


def test_a_refused_job_ends_all_of_its_processes(folder):
    """The first one finds what does not fit; the other one waits for its report."""
    result = tool(
        'dist_train.sh',
        folder / 'config.py',
        2,
        '--work-dir',
        folder / 'refused',
        '--cfg-options',
        'model.head.num_classes=1',
    )
    assert result.returncode == 1
    assert 'error: Training not started: 2 problems found' in result.stderr
    assert 'model.head.num_classes is 1, but val_dataloader.dataset' in result.stderr


def test_scripts_without_their_arguments_say_what_they_take():
    for name, first in (
        ('dist_train', 'CONFIG PROCESSES'),
        ('dist_test', 'CONFIG CHECKPOINT PROCESSES'),
        ('slurm_train', 'PARTITION JOB_NAME CONFIG WORK_DIR'),
    ):
        result = tool(f'{name}.sh')
        assert result.returncode == 2
        assert f'tools/{name}.sh {first}' in result.stderr


def words_of(name, program, folder, *arguments, settings=''):
    """The arguments that a script passes to a program of that name."""
    stub = folder / program
    stub.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    result = tool(name, *arguments, prelude=f'export PATH={folder}:$PATH ' + settings)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    'settings, booked', [('', '8'), ('GPUS=2', '2'), ('GPUS=4 GPUS_PER_NODE=1', '1')]
)
def test_slurm_books_no_more_gpus_than_are_used(settings, booked, tmp_path):
    arguments = 'srun', tmp_path, 'gpu', 'job', 'config.py', 'run'
    words = words_of('slurm_train.sh', *arguments, settings=settings)
    assert words[words.index('--gres') + 1] == f'gpu:{booked}'
    assert words[words.index('--ntasks-per-node') + 1] == booked


def test_slurm_gets_the_job_as_mmengine_starts_it(tmp_path):
    words = words_of(
        'slurm_train.sh',
        'srun',
        tmp_path,
        'gpu',
        'my job',
        'a config.py',
        'run',
        '--amp',
        settings='GPUS=16 SRUN_ARGS="--time 10"',
    )
    assert words[:10] == [
        '-p',
        'gpu',
        '--job-name',
        'my job',
        '--gres',
        'gpu:8',
        '--ntasks',
        '16',
        '--ntasks-per-node',
        '8',
    ]
    assert words[12:15] == ['--kill-on-bad-exit=1', '--time', '10']
    assert words[-6:] == [
        'a config.py',
        '--work-dir',
        'run',
        '--amp',
        '--launcher',
        'slurm',
    ]


@pytest.mark.parametrize(
    'settings, place',
    [
        ('', ['--standalone']),
        (
            'NNODES=2 NODE_RANK=1 MASTER_ADDR=host PORT=5',
            [
                '--nnodes',
                '2',
                '--node-rank',
                '1',
                '--master-addr',
                'host',
                '--master-port',
                '5',
            ],
        ),
    ],
)
def test_torchrun_gets_the_test_and_the_machines(settings, place, tmp_path):
    words = words_of(
        'dist_test.sh',
        'python',
        tmp_path,
        'a config.py',
        'x.pth',
        4,
        '--out',
        'a b.pkl',
        settings=settings,
    )
    assert words[2:-7] == [*place, '--nproc-per-node', '4']
    assert words[-7].endswith('tools/test.py')
    assert words[-6:] == [
        'a config.py',
        'x.pth',
        '--out',
        'a b.pkl',
        '--launcher',
        'pytorch',
    ]
