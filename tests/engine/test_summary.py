# SPDX-License-Identifier: Apache-2.0
"""A training ends with its result, its files and the next command."""

import shlex
from types import SimpleNamespace

import pytest
import torch
from helpers.jobs import TOY, log_of_training, write_config
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmadaptor.engine.summary import log_summary


@pytest.fixture
def end(tmp_path, monkeypatch):
    """Trains the toy for an epoch; returns the last lines of its log."""
    monkeypatch.chdir(tmp_path)

    def end(text='', **changes):
        path = write_config(tmp_path, TOY + text, work_dir=str(tmp_path / 'run'))
        cfg = Config.fromfile(path)
        cfg.merge_from_dict({'train_cfg.max_epochs': 1, **changes})
        log = log_of_training(cfg)
        return log.rpartition('Training finished.\n')[2].splitlines()

    return end


def test_result_files_and_next_command(end, tmp_path):
    best = 'run/best_mAP_epoch_1.pth'
    result, last, kept, logs, following = end(
        **{'default_hooks.checkpoint.save_best': 'mAP'}
    )
    score = torch.load(tmp_path / best, weights_only=False)
    score = score['message_hub']['runtime_info']['best_score']
    assert result == f'  Last validation: mAP {score:.4g}'
    assert last == '  Last checkpoint: run/epoch_1.pth'
    assert kept == f'  Best checkpoint: {best}'
    assert logs.startswith('  Logs: run/2') and (tmp_path / logs[8:]).is_dir()
    assert following == f'  Next: python tools/test.py run/config.py {best}'


def test_without_validation_test_and_checkpoint(end):
    plain = (
        'val_cfg = val_dataloader = val_evaluator = None\n'
        'test_cfg = test_dataloader = test_evaluator = None\n'
    )
    last, logs, following = end(plain)
    assert last == '  Last checkpoint: run/epoch_1.pth' and 'Logs: run/2' in logs
    command = 'python tools/image_demo.py IMAGES run/config.py run/epoch_1.pth'
    assert following == f'  Next: {command}'


def test_the_command_quotes_paths_with_spaces(end):
    following = end(work_dir='my run')[-1].partition('Next: ')[2]
    assert shlex.split(following)[2:] == ['my run/config.py', 'my run/epoch_1.pth']


def test_the_variants_of_a_metric_are_left_out(tmp_path):
    hub, lines = MessageHub(str(tmp_path)), []
    values = {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_50': 0.9, 'coco/segm_mAP': 0.4}
    for name, value in {**values, 'time': 3.0, 'data_time': 1.0}.items():
        hub.update_scalar(f'val/{name}', value)
    logger = SimpleNamespace(info=lines.append)
    runner = SimpleNamespace(
        message_hub=hub,
        log_dir=str(tmp_path),
        work_dir=str(tmp_path),
        cfg=Config(),
        timestamp='never',
        logger=logger,
    )
    log_summary(runner)
    assert 'Last validation: coco/bbox_mAP 0.5, coco/segm_mAP 0.4\n' in lines[0]
    assert 'checkpoint' not in lines[0] and 'Next' not in lines[0]
