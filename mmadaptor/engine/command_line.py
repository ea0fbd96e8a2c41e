# SPDX-License-Identifier: Apache-2.0
"""Configs, their arguments, and errors that the tools share."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmadaptor.arguments import filled
from mmadaptor.environment import problem_behind
from mmadaptor.errors import (
    EXTRAS,
    InputError,
    described,
    disk_error_of,
    how_to_install,
    message_of,
)

from .cfg_options import merge_options
from .distributed import check_launcher, join_on_cpu, leave_processes

RUNNER_TYPE = 'mmadaptor.Runner'
TRACEBACK = 'MMADAPTOR_TRACEBACK'
USER_ERRORS = (InputError, FileExistsError, NotADirectoryError)
USER_ERRORS += (IsADirectoryError, PermissionError)


class SettingsAction(DictAction):
    """Reads KEY=VALUE; argparse names the argument of anything else."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        """Add the settings to the namespace."""
        for text in values:
            if not text.partition('=')[0].strip() or '=' not in text:
                problem = f'expected KEY=VALUE, got {text!r}'
                raise argparse.ArgumentError(self, problem)
        super().__call__(parser, namespace, values, option_string)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument that changes a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=SettingsAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, such as '
        'train_dataloader.batch_size=4 or "key=[a,b]"; to add a key that does '
        'not exist, write +key=value',
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every job, named as in the toolboxes."""
    parser.add_argument(
        '--work-dir',
        type=filled,
        help='folder for logs and results (default: work_dir of the config, or '
        'work_dirs/CONFIG_NAME)',
    )
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed job',
    )
    # torch.distributed.launch passes --local-rank, older versions --local_rank.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


def read_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, and merge the options of a command line into it.

    Its `default_scope` is that of the model if it is not set: configs that name
    types as classes need none, but the tools do.

    Raises:
        InputError: The file is missing or broken, or has no model; or options match
            nothing.
    """
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such config file.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is Python code
        missing = how_to_install(str(error).partition(' ')[0])
        if isinstance(error, ModuleNotFoundError) and missing:
            raise InputError(f'{path} needs {missing}') from error
        # On a full disk mmengine fails in removing the copy that it has not made.
        behind = error.__context__
        full = isinstance(error, UnboundLocalError) and isinstance(behind, OSError)
        text = f'{path} cannot be read: {described(behind if full else error)}'
        raise InputError(text) from error
    model = needed(cfg, 'model')
    kind = model.get('type') if isinstance(model, dict) else None
    name = kind if isinstance(kind, str) else getattr(kind, '__module__', '')
    if cfg.get('default_scope') is None and name.split('.')[0] in EXTRAS:
        cfg.default_scope = name.split('.')[0]
    merge_options(cfg, options or {})
    return cfg


def needed(cfg: Config, key: str, for_what: str = '') -> Any:
    """Return a setting that a tool cannot do without.

    Args:
        cfg: The config.
        key: Its key.
        for_what: The argument of the command line that needs it.

    Raises:
        InputError: It is not set.
    """
    found = cfg.get(key)
    if found is None or isinstance(found, str):
        who = f'{for_what} needs' if for_what else 'expected'
        raise InputError(f'{cfg.filename}: {who} {key}=dict(...), got {found!r}.')
    return found


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a job and merge the common arguments into it.

    Raises:
        InputError: The config is missing or broken, options match nothing, or
            `--launcher` does not fit how the job was started.
    """
    check_launcher(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', name)
    cfg.setdefault('runner_type', RUNNER_TYPE)
    # Other runners than ours need it too.
    hook = dict(type='mmadaptor.StrictLoadHook')
    cfg.default_hooks = {'strict_load': hook, **(cfg.get('default_hooks') or {})}
    return cfg


def runner_class(cfg: Config) -> type:
    """Return the class that `runner_type` of a config is or names.

    Raises:
        InputError: There is no such class.
    """
    kind = cfg.runner_type
    found = RUNNERS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(found, type):
        raise InputError(f'{cfg.filename}: expected a runner_type, got {kind!r}.')
    return found


def build_runner(cfg: Config, split: str = '') -> Runner:
    """Build the runner that `runner_type` of a config names.

    Args:
        cfg: The config.
        split: `'train'` or `'test'`, which the config has to have.

    Raises:
        InputError: The config has only a part of a training, validation or test.
    """
    has_splits = issubclass(runner_class(cfg), Runner)
    for name in ('train', 'val', 'test') if has_splits else ():
        last = 'optim_wrapper' if name == 'train' else f'{name}_evaluator'
        keys = [f'{name}_dataloader', f'{name}_cfg', last]
        if name == split or any(cfg.get(key) is not None for key in keys):
            for key in keys:
                needed(cfg, key)
    # mmadaptor.Runner does this itself; other runners need it too.
    settings = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
    join_on_cpu(cfg.get('launcher', 'none'), settings)
    return RUNNERS.build(cfg)


def run(main: Callable[[], None]) -> None:
    """Run a tool; print an error of its user without a traceback."""
    try:
        main()
        leave_processes()
    except (*USER_ERRORS, OSError, ImportError) as error:
        if problem := problem_behind(error):
            error = InputError(problem)
        elif not isinstance(error, USER_ERRORS):
            found = disk_error_of(error) if isinstance(error, OSError) else None
            if found is None:
                raise
            error = found
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        more = f'\n({TRACEBACK}=1 shows where it happened.)' if error.__cause__ else ''
        sys.exit(f'\nerror: {message_of(error)}{more}')
