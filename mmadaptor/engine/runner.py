# SPDX-License-Identifier: Apache-2.0
"""The runner: mmengine's, with the guarantees of mmadaptor."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from mmadaptor.checkpoints.adaptor_only import holds_adaptors_only
from mmadaptor.checkpoints.initialized import checked_initializers
from mmadaptor.checkpoints.integrity import seal
from mmadaptor.checkpoints.loading import meta_of, read_checkpoint, renamed
from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.checkpoints.plain import make_plain, restore
from mmadaptor.checkpoints.pretrained import drop_pretrained
from mmadaptor.checkpoints.resumable import find_resumable, open_resumable
from mmadaptor.checkpoints.strict import load_model, prepare
from mmadaptor.checkpoints.writing import remove_parts, replace_when_written
from mmadaptor.errors import (
    DamagedFileError,
    InputError,
    as_input_error,
    described,
    how_to_install,
)
from mmadaptor.registry import RUNNERS
from mmadaptor.toolbox_code import of_toolbox

from .amp import lower_on_cpu
from .console import shorten
from .default_hooks import with_ours
from .distributed import find_unread_outputs, join_on_cpu, wrapper_for_cpu
from .failures import explained
from .hooks import AdaptorCheckpointHook, StrictLoadHook
from .lock import locked
from .loops import check_batches, check_end, check_interval
from .optim import check_clipping, check_optimizer, layer_decay_of_toolbox
from .preflight import dry_run, preflight
from .resumed_settings import SAVED, report, settings_of
from .saving import check_saving, is_local, saving_folder
from .summary import log_summary


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """Runs a training, validation or test, safely and reproducibly.

    Any tool that builds its runner from a config gets it by
    `runner_type = 'mmadaptor.Runner'`. In addition to mmengine's runner:

    - Before anything long starts, one error lists all that is missing or does
      not fit: checkpoints, files, labels, heads, ops (:mod:`.preflight`). Then a
      batch of training and one of validation are tried on copies.
    - Checkpoints are read weights-only and loaded strictly. One of adaptors
      only is completed with its base.
    - A checkpoint replaces its file when it is written as a whole. It ends with
      its SHA-256, which is checked when it is read.
    - `resume` takes the newest checkpoint that opens, and its seed. Random
      numbers are those of an unbroken run
      (:class:`~mmadaptor.engine.ExactResumeHook`). A validation that is
      missing is done first, and the log names settings that have changed.
    - Steps with non-finite gradients are skipped, and non-finite weights are
      never saved (:class:`~mmadaptor.engine.NonFiniteHook`).
    - Distributed jobs and mixed precision also work on a CPU.
    - One training at a time uses a work folder.

    Args:
        resume: False; True, which is mmengine's meaning: from `load_from` if
            that is set, else from the newest checkpoint in `work_dir`; or
            `'auto'`: from the newest checkpoint in `work_dir`, and if there is
            none start from `load_from`.

    All other arguments are those of mmengine's runner.
    """

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment, and the processes of a job on a CPU.

        Raises:
            InputError: The toolbox of the config cannot be imported.
        """
        if missing := how_to_install(self.cfg.get('default_scope')):
            raise InputError(f'The config needs {missing}')
        join_on_cpu(self._launcher, env_cfg.get('dist_cfg') or {})
        super().setup_env(env_cfg)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; its file has more than the console."""
        with as_input_error('log_level'):
            return shorten(super().build_logger(*args, **kwargs))

    def build_visualizer(self, *args: Any, **kwargs: Any) -> Visualizer:
        """Build the visualizer; its backends import their packages here.

        Else they would where the config is written to them, next in `__init__`.
        """
        with as_input_error('visualizer'):
            visualizer = super().build_visualizer(*args, **kwargs)
            if is_main_process():
                for backend in getattr(visualizer, '_vis_backends', {}).values():
                    if of_toolbox(type(backend)):
                        _ = backend.experiment
            return visualizer

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; a resumed one does not load its base first.

        Raises:
            InputError: The config of the model is wrong, or there is no
                checkpoint to resume from.
        """
        resumed = self._choose_checkpoint()
        self._needs_base = not resumed or holds_adaptors_only(resumed)
        if isinstance(model, dict) and not self._needs_base:
            drop_pretrained(model)
        with as_input_error('model'), checked_initializers():
            return super().build_model(model)

    def _choose_checkpoint(self) -> dict | None:
        """Return the opened checkpoint that a training resumes from.

        None if there is none, or if it cannot be opened yet: an address, or shards.
        """
        self._named, self._not_resumed = self._load_from, None
        if not self._resume or self._train_loop is None:
            return None
        if self._resume == 'auto' or self._load_from is None:
            saved_to = saving_folder(self.cfg, self.work_dir)
            try:
                found = [find_resumable(self.work_dir, saved_to)]
            except InputError as error:
                found = [error]
            broadcast_object_list(found)
            (newest,) = found
            if isinstance(newest, InputError):
                if self._named is None:
                    raise newest
                self._not_resumed = newest  # only a training would resume
                return None
            self._resume = newest is not None
            if not self._resume:
                self.logger.warning(
                    f'{self.work_dir} has no checkpoint to resume '
                    'from: starting from the beginning.'
                )
                return None
            self._load_from = newest
        path = os.path.expanduser(self._load_from)
        if '://' in path or os.path.isdir(path):
            return None
        checkpoint = open_resumable(self._load_from)
        seed = meta_of(checkpoint).get('seed')
        # mmengine does this when the data loaders have been built.
        if seed is not None and seed != self._randomness_cfg.get('seed'):
            self.logger.warning(f'The seed of {self._load_from} is used: {seed}')
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)
        return checkpoint

    def _init_model_weights(self) -> None:
        """Initialize the model, strictly; then all is there for a dry run."""
        skip, optional, _ = self._loading_exceptions()
        checked = checked_initializers(unwrapped(self.model), skip, optional)
        with as_input_error('model'), checked:
            super()._init_model_weights()
        dry_run(self)

    def _loading_exceptions(self) -> tuple:
        """Return the exceptions of `StrictLoadHook` for what is loaded now."""
        # One of custom_hooks comes after the default one.
        hooks = [hook for hook in self.hooks if isinstance(hook, StrictLoadHook)]
        return (hooks[-1] if hooks else StrictLoadHook()).exceptions(self)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model of a distributed job."""
        if self.distributed:
            find_unread_outputs(self.cfg, model)
            if get_device() == 'cpu':
                model_wrapper_cfg = wrapper_for_cpu(self.cfg, model_wrapper_cfg)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the default hooks; None removes any of them by its name."""
        super().register_default_hooks(with_ours(hooks))

    def register_hook(self, hook: Hook | dict, priority: Any = None) -> None:
        """Register a hook.

        mmengine removes the oldest checkpoint before it writes the newest. So
        if one is to be kept, two are.
        """
        with as_input_error('hooks'):
            super().register_hook(hook, priority)
        for hook in self.hooks:
            is_one = getattr(hook, 'max_keep_ckpts', None) == 1
            if isinstance(hook, CheckpointHook) and is_one:
                self.logger.info(
                    'max_keep_ckpts=1 keeps 2 checkpoints: the older '
                    'one is safe while a new one is written.'
                )
                hook.max_keep_ckpts = 2

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimizer wrapper; on a CPU also that of `--amp`."""
        with as_input_error('optim_wrapper'):
            if isinstance(optim_wrapper, dict):
                check_optimizer(optim_wrapper)
            optim_wrapper = layer_decay_of_toolbox(optim_wrapper, self.model)
            cfg = lower_on_cpu(optim_wrapper, self.model)
            wrapper = super().build_optim_wrapper(cfg)
            check_clipping(wrapper)
            return wrapper

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the parameter schedulers."""
        with as_input_error('param_scheduler'):
            return super().build_param_scheduler(scheduler)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """Build a data loader.

        Without workers, the settings that torch refuses then are dropped. Many
        base configs have them, and `num_workers=0` is common in debugging.
        """
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = ConfigDict(dataloader)
            dataloader.pop('persistent_workers', None)
            dataloader.pop('prefetch_factor', None)
        return MMEngineRunner.build_dataloader(dataloader, *args, **kwargs)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop, after the preflight checks."""
        if self._not_resumed:
            raise self._not_resumed
        if isinstance(loop, dict):
            splits = ['train'] + ['val'] * (self._val_loop is not None)
            preflight(self, splits, self._needs_base)
        with as_input_error('train_cfg` or `train_dataloader'):
            loop = super().build_train_loop(loop)
        check_batches(loop)
        if isinstance(loop, EpochBasedTrainLoop):
            check_end(loop, 'train_dataloader')
        if self._val_loop is not None:
            check_interval(loop)
        check_saving(self, loop)
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop, after the preflight checks."""
        if isinstance(loop, dict) and not isinstance(self._train_loop, BaseLoop):
            preflight(self, ['val'], self.tunes_adaptors())
        with as_input_error('val_cfg` or `val_dataloader'):
            loop = super().build_val_loop(loop)
        check_end(loop, 'val_dataloader')
        return loop

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop, after the preflight checks."""
        if isinstance(loop, dict):
            preflight(self, ['test'], self.tunes_adaptors())
        with as_input_error('test_cfg` or `test_dataloader'):
            loop = super().build_test_loop(loop)
        check_end(loop, 'test_dataloader')
        return loop

    def tunes_adaptors(self) -> bool:
        """Return whether checkpoints of the job hold adaptors only."""
        return any(isinstance(h, AdaptorCheckpointHook) for h in self.hooks)

    def train(self) -> nn.Module:
        """Train, alone in the work folder; log a summary and return the model.

        Raises:
            InputError: Another training uses the folder, the disk is full, or a
                process of the job was killed.
        """
        with locked(self.work_dir), explained():
            for folder in {self.work_dir, saving_folder(self.cfg, self.work_dir)}:
                master_only(remove_parts)(folder)
            model = super().train()
            log_summary(self)
            return model

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a training; the log names settings that have changed.

        Raises:
            DamagedFileError: The checkpoint holds no state of such a training.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise DamagedFileError(
                f'{filename} cannot be resumed from: {described(error)}'
            ) from error

    def source(self, trains: bool) -> str | None:
        """Return the checkpoint that a training, or a test by itself, loads."""
        return self._load_from if trains else self._named or self._load_from

    def load_or_resume(self) -> None:
        """Load or resume; a validation or test by itself only loads.

        The config of a resumed training has `resume='auto'`. A test with it loads the
        checkpoint that it is given, not the newest one.
        """
        path = self.source(trains=False)
        if self._has_loaded or isinstance(self._train_loop, BaseLoop) or not path:
            super().load_or_resume()
        else:
            self.load_checkpoint(path)
            self._has_loaded = not self._resume  # a training still has to resume

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = True,
        revise_keys: Sequence = ((r'^module\.', ''),),
    ) -> dict:
        """Load a checkpoint, weights only and strictly.

        Args:
            filename: A path or URL.
            map_location: As in `torch.load`.
            strict: Unused: loading is strict. `StrictLoadHook` has the
                exceptions.
            revise_keys: Patterns and replacements for the names of the weights.

        Returns:
            The content of the checkpoint.

        Raises:
            InputError: The file is missing, damaged, unsafe, or of another
                model.
        """
        checkpoint = read_checkpoint(filename, map_location)
        # mmengine's resume executes it as a config file.
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        model = unwrapped(self.model)
        skip, optional, starts = self._loading_exceptions()
        prepare(model, checkpoint, filename, skip)
        for pattern, replacement in revise_keys:
            checkpoint['state_dict'] = renamed(
                checkpoint['state_dict'], partial(re.sub, pattern, replacement)
            )
        if self._resume and isinstance(self._train_loop, BaseLoop):
            report(meta_of(checkpoint), checkpoint, self, filename)
            restore(checkpoint)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_model(model, checkpoint, filename, skip, optional, starts)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    @master_only
    def save_checkpoint(
        self, out_dir: str, filename: str, *args: Any, **kwargs: Any
    ) -> None:
        """Save a checkpoint; the arguments are mmengine's.

        A local file is written next to its final path, and moved there when it
        is complete and on the disk.

        Raises:
            CheckpointWriteError: The disk is full or cannot be written.
        """
        meta = kwargs.get('meta')
        if isinstance(meta, dict):
            meta[SAVED] = settings_of(self)
        backend = kwargs.get('file_client_args', args[0] if args else None)
        if not is_local(out_dir, backend or kwargs.get('backend_args')):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with replace_when_written(os.path.join(out_dir, filename)) as part:
            name = os.path.relpath(part, out_dir)
            super().save_checkpoint(out_dir, name, *args, **kwargs)
            seal(part)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks; what they add to a checkpoint is made plain."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            make_plain(kwargs['checkpoint'])
