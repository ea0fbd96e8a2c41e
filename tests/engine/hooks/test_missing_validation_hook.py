# SPDX-License-Identifier: Apache-2.0
"""A validation that a kill cut off is done first; tests/faults kills for real."""

import logging
from types import SimpleNamespace

import pytest
import torch
from helpers import toy  # noqa: F401
from helpers.jobs import TOY, log_of_training, write_config
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop

from mmadaptor.engine import MissingValidationHook

SAID = 'is not recorded in the checkpoint: validating first'


def run(folder, epochs, interval=1, **changes):
    """Trains or resumes to an epoch; returns the log."""
    cfg = Config.fromfile(write_config(folder, TOY, work_dir=str(folder / 'run')))
    cfg.merge_from_dict(
        {
            'train_cfg': dict(max_epochs=epochs, val_interval=interval),
            'train_dataloader.num_workers': 0,
            'experiment_name': f'to_{epochs}_{interval}',
            'resume': 'auto',
            **changes,
        }
    )
    return log_of_training(cfg)


def test_it_is_done_first(tmp_path):
    run(tmp_path, 2, interval=2)  # saved before its validation
    log = run(tmp_path, 4, interval=2)
    assert f'The validation of epoch 2 {SAID}' in log
    assert 'Epoch(val) [2][4/4]' in log
    assert 'Epoch(val) [4][4/4]' in log


def resumed(kind, done, end=5, resume=True, validation=1, **settings):
    """What a hook reads of a runner whose loop goes on after some steps."""
    loop, ran = object.__new__(kind), []
    by_epoch = kind is EpochBasedTrainLoop
    ends = dict(_max_epochs=end if by_epoch else 1, _max_iters=9 if by_epoch else end)
    vars(loop).update({'val_begin': 1, **settings}, _epoch=done, _iter=done, **ends)
    loop.dynamic_milestones, loop.dynamic_intervals = [0, 4], [2, 3]
    return SimpleNamespace(
        train_loop=loop,
        epoch=done if by_epoch else 0,
        iter=7 if by_epoch else done,
        message_hub=SimpleNamespace(
            runtime_info=dict(last_validation=validation),
            get_info=lambda name, _: f'the {name}',
        ),
        _resume=resume,
        val_loop=SimpleNamespace(run=lambda: ran.append(done)),
        hooks=[CheckpointHook()],
        logger=logging.getLogger(),
        model=torch.nn.Dropout().eval(),
        ran=ran,
    )


@pytest.mark.parametrize('kind', [EpochBasedTrainLoop, IterBasedTrainLoop])
@pytest.mark.parametrize(
    'done, settings, due',
    [
        (2, {}, True),
        (3, {}, True),  # from the fourth step on, every third one is validated
        (1, dict(validation=0), False),
        (4, {}, False),
        (4, dict(end=4), True),
        (2, dict(val_begin=2), True),
        (2, dict(val_begin=3), False),
        (2, dict(validation=2), False),
        (2, dict(resume=False), False),
        (0, dict(val_begin=0), False),
    ],
    ids=str,
)
def test_when_it_is_due(kind, done, settings, due):
    runner = resumed(kind, done, **settings)
    MissingValidationHook().before_train(runner)
    assert runner.ran == [done] * due
    assert runner.model.training == due
    assert getattr(runner.hooks[0], 'last_ckpt', None) == (
        'the last_ckpt' if due else None
    )


def test_without_a_validation_none_is_missing():
    runner = resumed(EpochBasedTrainLoop, 2)
    runner.val_loop = None
    MissingValidationHook().before_train(runner)
    assert not runner.model.training


def test_one_that_the_checkpoint_records_is_not_repeated(tmp_path):
    """mmengine saves again after a validation that gave a new best."""
    best = {'default_hooks.checkpoint': dict(save_best='mAP', rule='greater')}
    run(tmp_path, 1, **best)
    assert SAID not in run(tmp_path, 2, **best)


def test_loops_of_others_are_left_alone(tmp_path):
    run(tmp_path, 1)
    log = run(tmp_path, 2, train_cfg=dict(type='OwnLoop', _delete_=True))
    assert SAID not in log


@LOOPS.register_module()
class OwnLoop(BaseLoop):
    """A loop that is neither of mmengine's."""

    epoch, iter, max_epochs, max_iters = 1, 4, 1, 4

    def run(self):
        self.runner.call_hook('before_train')
