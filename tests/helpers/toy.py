# SPDX-License-Identifier: Apache-2.0
"""A model and a dataset that need mmengine alone, for jobs in subprocesses."""

import json
import os
import pathlib
import random
import signal
import time

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import all_reduce, get_rank, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch.utils.data import get_worker_info


class Sample:
    """What a toolbox packs beside an image."""

    def __init__(self, img_path):
        self.img_path = img_path


@DATASETS.register_module()
class ToyDataset(BaseDataset):
    """Random inputs; each call draws from all three generators."""

    def load_data_list(self):
        return [dict(number=i) for i in range(8)]

    def prepare_data(self, idx):
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return dict(inputs=torch.full((4,), float(idx)) + noise)


@DATASETS.register_module()
class KillDataset(ToyDataset):
    """A data set whose last sample kills the worker that loads it."""

    def prepare_data(self, idx):
        if idx == 7 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare_data(idx)


@MODELS.register_module()
class ToyModel(BaseModel):
    """A linear layer behind dropout, and `width` weights beside it."""

    def __init__(self, width=1, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.layer = torch.nn.Linear(4, 4)
        self.ballast = torch.nn.Parameter(torch.zeros(width))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.dropout(self.layer(torch.stack(list(inputs))))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x]


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """A number that depends on the weights."""

    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0].sum()))

    def compute_metrics(self, results):
        return dict(mAP=sum(results))


@METRICS.register_module()
class ScoreMetric(BaseMetric):
    """The mean score that a classifier gives to the first class."""

    def process(self, data_batch, data_samples):
        self.results += [float(s['pred_score'][0]) for s in data_samples]

    def compute_metrics(self, results):
        return dict(score=sum(results) / len(results))


@HOOKS.register_module()
class KillHook(Hook):
    """Ends a process as a full machine does, after some iterations."""

    def __init__(self, after, rank=0):
        self.after, self.rank = after, rank

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.after and get_rank() == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class LossHook(Hook):
    """Writes the loss of all processes' pictures, a line an iteration."""

    def after_train_iter(self, runner, outputs=None, **kwargs):
        loss = outputs['loss'].detach().double()
        all_reduce(loss, 'mean')
        if is_main_process():
            with open(os.path.join(runner.work_dir, 'losses.txt'), 'a') as file:
                file.write(f'{runner.iter} {loss.item()!r}\n')


@HOOKS.register_module()
class KillInSaveHook(Hook):
    """Ends a process while it saves its second checkpoint.

    `where` is 'write', when half of the file is written, or 'replace', when the
    whole file is written and not yet at its place.
    """

    def __init__(self, where):
        self.where, self.saves = where, 0

    def before_save_checkpoint(self, runner, checkpoint):
        self.saves += 1
        if self.saves == 2:
            os.replace = self.kill
            if self.where == 'write':
                LocalBackend.put = self.write_half

    def kill(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)

    def write_half(self, obj, filepath):
        with open(filepath, 'wb') as file:
            file.write(obj[: len(obj) // 2])
        self.kill()


@HOOKS.register_module()
class SlowHook(Hook):
    """Makes iterations and validations long enough to be killed in."""

    def after_train_iter(self, runner, **kwargs):
        time.sleep(0.05)

    def after_val_iter(self, runner, **kwargs):
        time.sleep(0.05)


@HOOKS.register_module()
class MemoryHook(Hook):
    """Writes the resident memory after every hundred iterations, in bytes."""

    def __init__(self):
        self.resident = {}

    def after_train_iter(self, runner, **kwargs):
        if (runner.iter + 1) % 100 == 0:
            pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
            self.resident[runner.iter + 1] = pages * os.sysconf('SC_PAGE_SIZE')

    def after_train(self, runner):
        path = pathlib.Path(runner.work_dir, 'memory.json')
        path.write_text(json.dumps(self.resident))


@HOOKS.register_module()
class LeakHook(Hook):
    """Keeps 8 KiB of each iteration."""

    def __init__(self):
        self.kept = []

    def after_train_iter(self, runner, **kwargs):
        self.kept.append(bytes([runner.iter % 256]) * 8192)
