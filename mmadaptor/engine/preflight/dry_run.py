# SPDX-License-Identifier: Apache-2.0
"""Tries a batch of training and one of validation before the first iteration.

So what only the loss, the last batch or the first evaluation meets is said at the
start. The model, the pipelines and the metrics are copies, and the states of the random
number generators are restored: the training is the same without it, bit by bit.
"""

import copy
import io
import os
import random
import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop
from mmengine.runner.amp import autocast
from mmengine.utils import apply_to
from torch.utils.data import DataLoader

from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.errors import InputError, described, message_of
from mmadaptor.models.backbones.base import AdaptableBackbone

from .datasets import leaves
from .report import Report

if TYPE_CHECKING:
    from ..runner import Runner

# Samplers whose batches may be of any samples.
SAMPLERS = {
    'ClassAwareSampler',
    'DefaultSampler',
    'DistributedSampler',
    'InfiniteSampler',
    'RandomSampler',
    'RepeatAugSampler',
    'SequentialSampler',
}
BATCH_SAMPLERS = {'AspectRatioBatchSampler', 'BatchSampler'}
# Metrics of the toolboxes that keep results in `results`, and write only to `FILES`.
METRICS = {
    'Accuracy',
    'AveragePrecision',
    'CocoMetric',
    'ConfusionMatrix',
    'IoUMetric',
    'LVISMetric',
    'MultiLabelMetric',
    'SingleLabelMetric',
    'VOCMetric',
}
FILES = ('outfile_prefix', 'output_dir')
TRAIN_POINTS = ('before_train', 'before_train_epoch', 'before_train_iter')
VAL_POINTS = ('before_val', 'before_val_epoch', 'before_val_iter')
MOST_BOXES = 300  # in an image
TrainLoop = EpochBasedTrainLoop | IterBasedTrainLoop


def dry_run(runner: 'Runner') -> None:
    """Try a batch of training and one of validation, and leave no trace.

    What need not work on one batch of any samples is left out: loops, samplers, steps
    and metrics other than those of mmengine and the toolboxes, and models in wrappers
    other than that of data parallelism. An error is only a warning if it is of memory,
    which the copies take too, or if hooks of others may change the model first.

    Args:
        runner: The runner of a training, with its loops and initialized weights.

    Raises:
        InputError: Lists the errors that the training would end with.
    """
    report, start = Report(), time.perf_counter()
    with kept_random_state(), _silent(runner):
        model = _copy(runner.model, report)
        if model is not None:
            for attempt, points in ((_train, TRAIN_POINTS), (_validate, VAL_POINTS)):
                prepared = any(_changes_models(hook, points) for hook in runner.hooks)
                add = report.note if prepared else report.problem
                try:
                    if text := attempt(runner, model):
                        add(text)
                except torch.OutOfMemoryError as error:
                    report.note(f'two models need more memory than one: {error}')
    for note in report.notes:
        runner.logger.warning(f'As tried before the training: {note}')
    # Other processes have other samples, and the error of any ends all.
    if texts := list(filter(None, all_gather_object(report.text('Training')))):
        raise InputError(texts[0])
    seconds = time.perf_counter() - start
    runner.logger.info(f'Tried a batch of training and of validation: {seconds:.1f} s')


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the states of the random number generators at the end."""
    python, arrays = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)


@contextmanager
def _silent(runner: 'Runner') -> Iterator[None]:
    """Hide what is printed, such as the metrics of a model that is not trained."""
    runner.logger.disabled = True
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        runner.logger.disabled = False


def _copy(model: torch.nn.Module, report: Report) -> BaseModel | None:
    """Return a copy of a model; None if nothing is known of what a copy does."""
    inner = unwrapped(model)
    wrapped = model is not inner and not isinstance(model, MMDistributedDataParallel)
    # A function in the place of a method leads back from the copy to the model.
    replaced = any(
        isinstance(vars(module).get('forward'), FunctionType)
        for module in inner.modules()
    )
    if wrapped or replaced or not isinstance(inner, BaseModel):
        return None
    try:
        return copy.deepcopy(inner)
    except Exception as error:
        report.note(f'{type(inner).__name__} cannot be copied: {error}')
        return None


def _copy_of_data(dataset: Any) -> Any:
    """Return a copy of a dataset that shares its samples, but not its pipelines."""
    shared = {
        id(value): value
        for _, leaf in leaves(dataset, '')
        for name, value in getattr(leaf, '__dict__', {}).items()
        if name != 'pipeline'
    }
    return copy.deepcopy(dataset, shared)


def _changes_models(hook: Hook, points: Sequence[str]) -> bool:
    """Return whether a hook is of others and does something at one of the points."""
    kind = type(hook)
    return not kind.__module__.startswith(('mmengine.', 'mmadaptor.')) and any(
        getattr(kind, point) is not getattr(Hook, point) for point in points
    )


def _is_plain(loader: Any) -> bool:
    """Return whether batches of a data loader may be of any samples."""
    batches = getattr(loader, 'batch_sampler', None)
    return (
        isinstance(loader, DataLoader)
        and type(batches).__name__ in BATCH_SAMPLERS
        and type(batches.sampler).__name__ in SAMPLERS
    )


def _train(runner: 'Runner', model: BaseModel) -> str:
    """Compute the loss of a batch that is as small as the last one.

    Returns:
        The error as a sentence; empty for none.
    """
    loop = runner.train_loop
    if not (
        type(loop) in (EpochBasedTrainLoop, IterBasedTrainLoop)
        and type(model).train_step is BaseModel.train_step
        and isinstance(runner.optim_wrapper, OptimWrapper)
        and _is_plain(loop.dataloader)
    ):
        return ''
    size = loop.dataloader.batch_sampler.batch_size
    last = _last_batch(loop)
    error = _error_of_training(runner, model, last)
    if error and last < size and not _error_of_training(runner, model, size):
        error += f'. A batch of {size} works: set drop_last=True, or another batch_size'
    which = 'The last batch' if last < size else 'A batch'
    return error and f'{which} of train_dataloader, of {_count(last)}, fails: {error}'


def _last_batch(loop: TrainLoop) -> int:
    """Return the size of the last batch of an epoch that a training reaches."""
    batches = loop.dataloader.batch_sampler
    size, samples = batches.batch_size, len(batches.sampler)
    whole = batches.drop_last or isinstance(batches.sampler, InfiniteSampler)
    if whole or loop.max_iters * size < samples:
        return size
    return samples % size or size


def _error_of_training(runner: 'Runner', model: BaseModel, size: int) -> str:
    loader = runner.train_loop.dataloader
    try:
        dataset = _copy_of_data(loader.dataset)
        samples = [dataset[i * len(dataset) // size] for i in range(size)]
        model.train()
        with runner.optim_wrapper.optim_context(model):  # as in `train_step`
            data = model.data_preprocessor(loader.collate_fn(samples), True)
            losses = model._run_forward(data, mode='loss')
        model.parse_losses(losses)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return _describe(error, model)
    return ''


def _validate(runner: 'Runner', model: BaseModel) -> str:
    """Predict the first batch of a validation, and compute its metrics.

    Returns:
        The error as a sentence; empty for none.
    """
    loop, train = runner.val_loop, runner.train_loop
    if not (
        type(loop) is ValLoop
        and type(model).val_step is BaseModel.val_step
        and _is_plain(loop.dataloader)
        and getattr(train, 'val_begin', 0) <= max(train.max_epochs, train.max_iters)
    ):
        return ''
    size = min(loop.dataloader.batch_sampler.batch_size, len(loop.dataloader.dataset))
    try:
        dataset = _copy_of_data(loop.dataloader.dataset)
        batch = loop.dataloader.collate_fn([dataset[i] for i in range(size)])
        model.eval()
        _accept_all_boxes(model)
        with torch.no_grad(), autocast(enabled=loop.fp16):
            outputs = model.val_step(batch)
        _measure(loop.evaluator.metrics, outputs[:size], batch)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        text = _describe(error, model)
        return f'The first batch of val_dataloader, of {_count(size)}, fails: {text}'
    return ''


def _accept_all_boxes(model: BaseModel) -> None:
    """Lower the score that a box of mmdet needs.

    A detector that is not trained predicts no box, and of none no metric is computed.
    """
    for module in model.modules():
        cfg = getattr(module, 'test_cfg', None)
        for part in (cfg, *cfg.values()) if isinstance(cfg, dict) else ():
            # Without a limit of boxes their masks may fill the memory.
            if isinstance(part, dict) and 0 < part.get('max_per_img', 0) <= MOST_BOXES:
                part['score_thr'] = 0.0


def _measure(metrics: Sequence[BaseMetric], outputs: Sequence, batch: Any) -> None:
    """Compute metrics of a batch alone; its files are written to a temporary folder."""
    copies = [
        copy.copy(metric)
        for metric in metrics
        if type(metric).__name__ in METRICS
        and type(metric).__module__.startswith(('mmdet.', 'mmpretrain.', 'mmseg.'))
    ]
    with tempfile.TemporaryDirectory() as folder:
        for metric in copies:
            metric.results = []
            for name in FILES:
                if getattr(metric, name, None) is not None:
                    setattr(metric, name, os.path.join(folder, ''))
            if hasattr(metric, 'img_ids'):  # mmdet's: not all of the annotation file
                metric.img_ids = [sample.img_id for sample in outputs]
        Evaluator(copies).process(data_samples=outputs, data_batch=batch)
        for metric in copies:
            metric.compute_metrics(
                apply_to(metric.results, torch.is_tensor, torch.Tensor.cpu)
            )


def _count(size: int) -> str:
    return f'{size} sample{"s" * (size > 1)}'


def _describe(error: Exception, model: BaseModel) -> str:
    """Return an error as text, with the module and the line that it comes from."""
    if isinstance(error, InputError):
        return message_of(error)
    names = {id(module): name for name, module in model.named_modules(prefix='model')}
    frames = list(traceback.walk_tb(error.__traceback__))
    modules = [names.get(id(frame.f_locals.get('self'))) for frame, _ in frames]
    module = ([name for name in modules if name] or ['no module'])[-1]
    frame, line = frames[-1]
    return (
        f'{described(error).splitlines()[0][:300]} (in {module}, '
        f'{frame.f_globals.get("__name__")} line {line})'
        f'{_outputs_of_backbone(model, module)}'
    )


def _outputs_of_backbone(model: BaseModel, module: str) -> str:
    """Return what a neck or a head gets from our backbone; empty for other modules."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, AdaptableBackbone) or not re.match(
        r'model\.(\w*_)?(neck|head)\b', module
    ):
        return ''
    return (
        f'. The backbone returns out_indices={backbone.out_indices} with '
        f'out_channels={backbone.out_channels} and strides={backbone.strides}'
    )
