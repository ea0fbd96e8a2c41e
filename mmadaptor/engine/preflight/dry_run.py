# SPDX-License-Identifier: Apache-2.0
"""Tries a batch of training and one of validation before the first iteration.

So what only the loss, the last batch or the first evaluation meets is said at the
start. The model, the pipelines and the metrics are copies, and the states of the random
number generators are restored: the training is the same without it, bit by bit.
"""

import re
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader

from mmadaptor.errors import InputError, described, message_of
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.toolbox_code import TOOLBOXES, of_library, of_toolbox

from ..loops import is_reached
from .copies import (
    NotCopiedError,
    as_in_training,
    copy_of_data,
    copy_of_model,
    kept_random_state,
    silent,
)
from .measuring import Names, measure, unmet_names
from .report import Report
from .steps import StepError, gather, in_all

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
TRAIN_POINTS = (
    'after_load_checkpoint',
    'before_train',
    'before_train_epoch',
    'before_train_iter',
)
VAL_POINTS = ('before_val', 'before_val_epoch', 'before_val_iter')
TRAINED_POINTS = (*TRAIN_POINTS, 'after_train_iter', 'after_train_epoch')
MOST_BOXES = 300  # in an image
NO_NAMES = Names([], known=False)
TRAIN_LOOPS = (EpochBasedTrainLoop, IterBasedTrainLoop)
TrainLoop = EpochBasedTrainLoop | IterBasedTrainLoop


def dry_run(runner: 'Runner') -> None:
    """Try a batch of training and one of validation, and leave no trace.

    What need not work on one batch of any samples is left out: loops, samplers, steps,
    evaluators and metrics other than those of mmengine and the toolboxes, and models in
    wrappers other than that of data parallelism. What cannot be copied is left out with
    a warning. An error is only a warning if it is of memory, which the copies take too,
    or if hooks of others may change the model first.

    Args:
        runner: The runner of a training, with its loops and initialized weights.

    Raises:
        InputError: Lists the errors that the training would end with.
    """
    report, start = Report(), time.perf_counter()
    with kept_random_state(), silent(runner.logger), as_in_training(runner):
        _try(runner, report)
    # Other processes have other samples, and the error of any ends all.
    found = all_gather_object((report.text('Training'), report.notes))
    for note in dict.fromkeys(note for _, notes in found for note in notes):
        runner.logger.warning(f'As tried before the training: {note}')
    if texts := [text for text, _ in found if text]:
        raise InputError(texts[0])
    seconds = time.perf_counter() - start
    runner.logger.info(f'Tried a batch of training and of validation: {seconds:.1f} s')


def _try(runner: 'Runner', report: Report) -> None:
    """Report what fails, and what hooks will not find."""
    model = None
    with _told(report, runner.model, 'The model', ()):
        model = in_all(copy_of_model, runner.model)
    if model is None:
        return
    _train(runner, model, report)
    names = _validate(runner, model, report)
    changed = _changers(runner.hooks, ('after_val_epoch', *VAL_POINTS))
    for text, ends in unmet_names(runner.hooks, runner.param_schedulers, names):
        if ends and names.complete and not changed:
            report.problem(text)
        else:
            report.note(f'{text}, as far as a batch can tell')


@contextmanager
def _told(
    report: Report, model: BaseModel, what: str, changers: Sequence
) -> Iterator[None]:
    """Report the error of a step with a model, if it is of this process.

    `what` is the subject of the sentence; `changers` might prevent the error.

    Raises:
        InputError: The other processes wait for this one in a collective.
    """
    try:
        yield
    except StepError as failed:
        error = failed.cause
        text = f'{what} fails: {error and _describe(error, model)}{failed.advice}'
        if failed.alone:
            report.problem(text)
            raise InputError(report.text('Training')) from error
        if isinstance(error, NotCopiedError):
            report.note(f'{error}, so it is not tried')
        elif isinstance(error, torch.OutOfMemoryError):
            report.note(f'two models need more memory than one: {error}')
        elif error is not None:
            (report.note if changers else report.problem)(text)


def _changers(
    hooks: Sequence[Hook],
    points: Sequence[str],
    toolboxes: Sequence[str] = ('mmengine', 'mmadaptor'),
) -> list[Hook]:
    """Return the hooks of others that do something at one of the points."""
    return [
        hook
        for hook in hooks
        if not of_toolbox(type(hook), *toolboxes)
        and any(getattr(type(hook), p) is not getattr(Hook, p) for p in points)
    ]


def _is_plain(loader: Any) -> bool:
    """Return whether batches of a data loader may be of any samples."""
    batches = getattr(loader, 'batch_sampler', None)
    return (
        isinstance(loader, DataLoader)
        and _is_any(batches, BATCH_SAMPLERS)
        and _is_any(batches.sampler, SAMPLERS)
    )


def _is_any(sampler: Any, names: set[str]) -> bool:
    """Return whether a sampler is one of torch or the toolboxes with such a name."""
    kind = type(sampler)
    return kind.__name__ in names and of_library(kind)


def _train(runner: 'Runner', model: BaseModel, report: Report) -> None:
    """Compute the loss of a batch that is as small as the last one."""
    loop = runner.train_loop
    if not (
        type(loop) in TRAIN_LOOPS
        and type(model).train_step is BaseModel.train_step
        and isinstance(runner.optim_wrapper, OptimWrapper)
        and _is_plain(loop.dataloader)
    ):
        return
    size = loop.dataloader.batch_sampler.batch_size
    last = min(gather(_last_batch(loop)))
    which = 'The last batch' if last < size else 'A batch'
    what = f'{which} of train_dataloader, of {_count(last)},'
    with _told(report, model, what, _changers(runner.hooks, TRAIN_POINTS)):
        batch = in_all(_training_batch, loop.dataloader, last)
        try:
            in_all(_compute_loss, runner, model, batch, collective=True)
        except StepError as failed:
            if last < size and not (failed.of_memory or failed.alone):
                failed.advice = _advice(runner, model, size)
            raise


def _last_batch(loop: TrainLoop) -> int:
    """Return the size of the last batch of an epoch that a training reaches."""
    batches = loop.dataloader.batch_sampler
    size, samples = batches.batch_size, len(batches.sampler)
    whole = batches.drop_last or isinstance(batches.sampler, InfiniteSampler)
    if whole or loop.max_iters * size < samples:
        return size
    return samples % size or size


def _training_batch(loader: DataLoader, size: int) -> Any:
    dataset = copy_of_data(loader.dataset, 'train_dataloader')
    length = len(loader.dataset)
    return _batch(loader, dataset, [i * length // size for i in range(size)])


def _batch(loader: DataLoader, dataset: Any, samples: list[int]) -> Any:
    """Return a batch of a data loader, of a copy of its dataset."""
    try:
        return loader.collate_fn([dataset[i] for i in samples])
    except Exception:
        if loader.num_workers:  # what it needs may be there in a worker only
            with suppress(Exception):
                return next(iter(_in_worker(loader, dataset, samples)))
        raise


def _in_worker(loader: DataLoader, dataset: Any, samples: list[int]) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=[samples],
        num_workers=1,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )


def _compute_loss(runner: 'Runner', model: BaseModel, batch: Any) -> None:
    model.train()
    with runner.optim_wrapper.optim_context(model):  # as in `train_step`
        losses = model._run_forward(model.data_preprocessor(batch, True), mode='loss')
    model.parse_losses(losses)


def _advice(runner: 'Runner', model: BaseModel, size: int) -> str:
    """Return that a batch of another size works; empty if it does not."""
    try:
        batch = in_all(_training_batch, runner.train_loop.dataloader, size)
        in_all(_compute_loss, runner, model, batch, collective=True)
    except StepError as failed:
        if failed.alone:
            raise
        return ''
    return f'. A batch of {size} works: set drop_last=True, or another batch_size'


def _validate(runner: 'Runner', model: BaseModel, report: Report) -> Names:
    """Predict the first batch of a validation; return the names of its metrics."""
    loop = runner.val_loop
    if not (
        type(loop) is ValLoop
        and type(model).val_step is BaseModel.val_step
        and _is_plain(loop.dataloader)
        and type(runner.train_loop) in TRAIN_LOOPS
        and is_reached(runner.train_loop)
    ):
        return NO_NAMES
    loader = loop.dataloader
    size = min(loader.batch_sampler.batch_size, len(loader.dataset))
    what = f'The first batch of val_dataloader, of {_count(size)},'
    changers = _changers(runner.hooks, VAL_POINTS)
    # What a validation needs may be made by a user-defined training loop.
    changers += _changers(runner.hooks, TRAINED_POINTS, TOOLBOXES)
    changers += [model] * (type(model).train_step is not BaseModel.train_step)
    with _told(report, model, what, changers):
        batch = in_all(_validation_batch, loader, size)
        runner.message_hub.update_info('loop_stage', 'val')  # as RuntimeInfoHook does
        return in_all(_predict, loop, model, batch, size, collective=True)
    return NO_NAMES


def _validation_batch(loader: DataLoader, size: int) -> Any:
    dataset = copy_of_data(loader.dataset, 'val_dataloader')
    return _batch(loader, dataset, list(range(size)))


def _predict(loop: ValLoop, model: BaseModel, batch: Any, size: int) -> Names:
    model.eval()
    _accept_all_boxes(model)
    with torch.no_grad(), autocast(enabled=loop.fp16):
        outputs = model.val_step(batch)
    names = measure(loop.evaluator, outputs[:size], batch)
    names.known &= len(outputs) == size  # losses become metrics
    return names


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
