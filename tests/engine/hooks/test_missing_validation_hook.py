# SPDX-License-Identifier: Apache-2.0
"""A validation that a kill cut off is done first; tests/faults kills for real."""

import pytest
from helpers import toy  # noqa: F401
from helpers.jobs import TOY, log_of_training, write_config
from mmengine.config import Config
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop

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


@pytest.mark.parametrize('interval, due', [(1, True), (2, True), (3, False)])
def test_it_is_done_if_it_was_due(interval, due, tmp_path):
    run(tmp_path, 2, interval)  # saved before its validation
    log = run(tmp_path, 4, interval)
    assert (f'The validation of epoch 2 {SAID}' in log) == due
    assert ('Epoch(val) [2][4/4]' in log) == due
    assert 'Epoch(val) [4][4/4]' in log


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
