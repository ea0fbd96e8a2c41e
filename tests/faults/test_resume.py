# SPDX-License-Identifier: Apache-2.0
"""Killed at any moment and resumed by the toolboxes' own tools: the same weights."""

import pytest
from helpers import toolboxes as t

from mmadaptor.datasets import make_shapes

KILLED = dict(
    iteration="custom_hooks = [dict(type='KillHook', after={0})]",
    write="custom_hooks = [dict(type='KillInSaveHook', where='write')]",
    replace="custom_hooks = [dict(type='KillInSaveHook', where='replace')]",
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('resumed')
    make_shapes(folder / 'data' / 'shapes', train=16, val=3, workers=1)
    return folder


@pytest.fixture(
    scope='module',
    params=[
        ('mmdet', t.BY_EPOCH, 'epoch_3.pth'),
        ('mmseg', t.BY_ITERATION, 'iter_12.pth'),
        ('mmpretrain', t.BY_EPOCH, 'epoch_3.pth'),
    ],
    ids=lambda p: p[0],
)
def job(request, folder):
    """A toolbox, its loop, its last checkpoint, and a run that nothing stopped."""
    toolbox, loop, last = request.param
    config = t.write_config(folder, toolbox, f'whole_{toolbox}', loop=loop)
    run = folder / f'unbroken_{toolbox}'
    t.run(toolbox, 'train', folder, config, '--work-dir', run)
    return toolbox, loop, config, run / last


@pytest.mark.parametrize(
    'moment, workers', [('iteration', 2), ('write', 0), ('replace', 1)]
)
def test_killed_and_resumed_is_unbroken(job, folder, moment, workers):
    """Killed in the third pass, or in the second save; other workers resume."""
    toolbox, loop, config, unbroken = job
    run = folder / f'{moment}_{toolbox}'
    killed = t.write_config(
        folder,
        toolbox,
        f'{moment}_{toolbox}',
        KILLED[moment].format(t.load(unbroken)['meta']['iter'] - 2),
        loop=loop,
    )
    t.run(toolbox, 'train', folder, killed, '--work-dir', run, fails=-9)
    assert not (run / unbroken.name).exists()
    output = t.run(
        toolbox,
        'train',
        folder,
        config,
        '--work-dir',
        run,
        '--resume',
        '--cfg-options',
        f'train_dataloader.num_workers={workers}',
    )
    assert 'resumed epoch: ' in output
    t.assert_same_state(run / unbroken.name, unbroken)
    assert not list(run.glob('*.part'))


def test_a_damaged_newest_checkpoint_is_skipped(job, folder):
    toolbox, _, config, unbroken = job
    run = folder / f'damaged_{toolbox}'
    run.mkdir()
    names = sorted(p.name for p in unbroken.parent.glob('*.pth'))
    for name in names:
        content = (unbroken.parent / name).read_bytes()
        (run / name).write_bytes(content[:-100] if name == unbroken.name else content)
    output = t.run(toolbox, 'train', folder, config, '--work-dir', run, '--resume')
    assert f'{run / unbroken.name} is truncated' in output
    t.assert_same_state(run / unbroken.name, unbroken)
