# SPDX-License-Identifier: Apache-2.0
"""Checkpoints open by `torch.load` as it is, and resume with all of their logs."""

import numpy as np
import pytest
import torch
from helpers.jobs import TOY, write_config
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer

from mmadaptor.checkpoints.plain import make_plain, restore_histories
from mmadaptor.engine import Runner
from mmadaptor.errors import DamagedFileError

LOGS = TOY + "train_dataloader['num_workers'] = 0\n"


def train(folder, **changes):
    cfg = Config.fromfile(write_config(folder, LOGS, work_dir=str(folder / 'run')))
    cfg.merge_from_dict({'experiment_name': str(changes), **changes})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_run_leaves_what_torch_load_reads_and_resumes(tmp_path):
    whole = train(tmp_path)
    path = tmp_path / 'run' / 'epoch_3.pth'
    content = torch.load(path)  # weights only, and nothing is allowed
    logs = content['message_hub']['log_scalars']
    losses = whole.message_hub.log_scalars['train/loss'].data[0]
    assert len(losses) == 12
    np.testing.assert_array_equal(logs['train/loss']['values'], losses)
    resumed = train(
        tmp_path, resume=True, load_from=str(path.with_name('epoch_2.pth'))
    ).message_hub
    values, _ = resumed.log_scalars['train/loss'].data
    np.testing.assert_array_equal(values, losses)  # the first two epochs are not lost
    assert isinstance(resumed.get_scalar('train/loss'), HistoryBuffer)
    assert resumed.log_scalars.keys() == whole.message_hub.log_scalars.keys()


def test_numbers_keep_their_values_and_buffers_their_lengths():
    buffer = HistoryBuffer([1.5, 2.5], [3, 4], max_length=7)
    checkpoint = dict(
        meta=dict(dataset_meta=ConfigDict(classes=('a',)), best=[np.float32(0.5)]),
        message_hub=dict(
            log_scalars=dict(loss=buffer), runtime_info={}, resumed_keys={}
        ),
    )
    make_plain(checkpoint)
    assert checkpoint['meta'] == dict(dataset_meta=dict(classes=('a',)), best=[0.5])
    assert type(checkpoint['meta']['dataset_meta']) is dict
    restore_histories(checkpoint)
    restored = checkpoint['message_hub']['log_scalars']['loss']
    assert restored.max_length == 7
    for got, expected in zip(restored.data, buffer.data):
        np.testing.assert_array_equal(got, expected)
    restore_histories(checkpoint)  # mmengine's own stay
    assert checkpoint['message_hub']['log_scalars']['loss'] is restored


@pytest.mark.parametrize(
    'saved',
    [
        {},
        dict(values=torch.ones(2), counts=torch.ones(3), max_length=9),
        dict(values=torch.ones(2, 2), counts=torch.ones(2), max_length=9),
        dict(values=torch.ones(2), counts=torch.ones(2), max_length='9'),
    ],
    ids=str,
)
def test_damaged_histories_are_named(saved):
    with pytest.raises(DamagedFileError, match='history of loss in the checkpoint'):
        restore_histories(dict(message_hub=dict(log_scalars=dict(loss=saved))))
