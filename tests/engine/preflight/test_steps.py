# SPDX-License-Identifier: Apache-2.0
"""In a job of several processes, an error of one is said by all, and nobody waits."""

import pytest
import torch
from helpers.jobs import TOY, tool, write_config
from helpers.toy import ToyDataset, ToyModel
from mmengine.dist import all_reduce, get_rank
from mmengine.registry import DATASETS, MODELS

from mmadaptor.engine.preflight import steps

# `tests` is in the path of the processes.
JOB = (
    TOY
    + """
custom_imports['imports'] += [
    'mmadaptor.engine', 'engine.preflight.test_steps']
model = dict(type='AveragingModel', fault='')
train_dataloader = dict(
    train_dataloader, num_workers=0, dataset=dict(type='PartlyBadDataset', bad=False))
train_cfg = dict(by_epoch=True, max_epochs=1)
find_unused_parameters = True
env_cfg = dict(dist_cfg=dict(backend='gloo', timeout=150))
"""
)


@DATASETS.register_module(force=True)
class PartlyBadDataset(ToyDataset):
    """A dataset that one of the processes cannot read."""

    def __init__(self, bad, **settings):
        super().__init__(**settings)
        self.bad = bad

    def prepare_data(self, idx):
        if self.bad and get_rank() == 1:
            raise ValueError('this sample is bad')
        return super().prepare_data(idx)


@MODELS.register_module(force=True)
class AveragingModel(ToyModel):
    """A model whose loss averages over the processes; one may fail, once."""

    calls = 0

    def __init__(self, fault, **settings):
        super().__init__(**settings)
        self.fault = fault

    def forward(self, inputs, data_samples=None, mode='tensor'):
        losses = super().forward(inputs, data_samples, mode)
        if mode == 'loss':
            self.fail('before')
            all_reduce(losses['loss'].detach(), 'mean')
            self.fail('after')
            AveragingModel.calls += 1
        return losses

    def fail(self, when):
        if get_rank() == 0 or AveragingModel.calls or when not in self.fault:
            return
        AveragingModel.calls += 1
        steps.PATIENCE = 3
        if 'memory' in self.fault:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        raise ValueError('this loss is bad')


def train(folder, *options):
    config = write_config(folder, JOB, work_dir=str(folder / 'run'))
    result = tool('dist_train.sh', config, 2, '--cfg-options', *options)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    'option, text',
    [
        (
            'train_dataloader.dataset.bad=True',
            'A batch of train_dataloader, of 2 samples, fails: ValueError: this sample',
        ),
        (
            'model.fault=before',  # the other process waits in the collective
            'A batch of train_dataloader, of 2 samples, fails: ValueError: this loss is',
        ),
    ],
)
def test_an_error_of_one_process_ends_all(tmp_path, option, text):
    code, output = train(tmp_path, option)
    assert code != 0
    assert f'Training not started: 1 problem found\n  1. {text}' in output
    assert 'Timed out' not in output and 'Epoch(train)' not in output


def test_memory_that_one_process_lacks_is_a_note(tmp_path):
    """And it is said, though only the first process writes its notes."""
    code, output = train(tmp_path, 'model.fault=memory-after')
    assert code == 0, output
    assert 'two models need more memory than one: CUDA out of memory.' in output
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
