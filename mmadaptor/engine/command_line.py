# SPDX-License-Identifier: Apache-2.0
"""What tools/train.py and tools/test.py share: arguments, config, errors."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmadaptor.errors import InputError, how_to_install

from .cfg_options import merge_options
from .distributed import check_launcher, join_processes, leave_processes
from .loading import guard_loading

STRICT_LOAD = 'mmadaptor.StrictLoadHook'
ADAPTORS_ALONE = 'mmadaptor.AdaptorCheckpointHook'


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that changes a config.

    Args:
        parser: The tool's parser.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help="settings that replace the config's, such as "
        'train_dataloader.batch_size=4 or "key=[a,b]"; a key that matches '
        'nothing is an error unless it is written +key=value',
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that every job has, named as in the toolboxes.

    Args:
        parser: The tool's parser.
    """
    parser.add_argument(
        '--work-dir',
        help="folder for logs and results (default: the config's work_dir, "
        'or work_dirs/CONFIG_NAME)',
    )
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed job',
    )
    # torch.distributed.launch passes --local-rank, older ones --local_rank.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


def read_config(path: str) -> Config:
    """Reads a config.

    Args:
        path: Its file.

    Returns:
        The config.

    Raises:
        InputError: The config is missing or broken.
    """
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such config file.')
    try:
        return Config.fromfile(path)
    except (
        SyntaxError,
        NameError,
        OSError,
        ImportError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        missing = how_to_install(str(error).partition(' ')[0])
        if isinstance(error, ModuleNotFoundError) and missing:
            raise InputError(f'{path} needs {missing}') from error
        raise InputError(
            f'{path} cannot be read: {type(error).__name__}: {error}'
        ) from error


def load_config(args: argparse.Namespace) -> Config:
    """Reads the config of a job and merges the common arguments into it.

    Args:
        args: The parsed arguments.

    Returns:
        The config; `work_dir` is set.

    Raises:
        InputError: The config is missing or broken, options match nothing, or
            `--launcher` does not fit how the job was started.
    """
    check_launcher(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', name)
    _collate_for_mmpretrain(cfg)
    add_hook(cfg, STRICT_LOAD)
    return cfg


def _collate_for_mmpretrain(cfg: Config) -> None:
    """Mmpretrain's models take stacked batches, which its configs leave out."""
    if cfg.get('default_scope') != 'mmpretrain':
        return
    for split in ('train', 'val', 'test'):
        if cfg.get(f'{split}_dataloader'):
            cfg[f'{split}_dataloader'].setdefault(
                'collate_fn', dict(type='default_collate')
            )


def make_data(cfg: Config) -> None:
    """Makes the embedded dataset where a config says `embedded_dataset=ROOT`.

    Args:
        cfg: The config.

    Raises:
        InputError: The folder is not free for it, or cannot be written to.
    """
    root = cfg.get('embedded_dataset')
    if root is None:
        return
    from mmadaptor.datasets import prepare

    try:
        prepare(root)
    except OSError as error:
        raise InputError(f'embedded_dataset: {error}') from error


def add_hook(cfg: Config, name: str) -> None:
    """Adds a hook to a config that does not have it yet.

    Args:
        cfg: The config, which is changed.
        name: The hook's `type`.
    """
    if not has_hook(cfg, name):
        hooks = cfg.get('custom_hooks') or []
        cfg.custom_hooks = [*hooks, dict(type=name)]


def has_hook(cfg: Config, name: str) -> bool:
    """Whether a config has a custom hook.

    Args:
        cfg: The config.
        name: The hook's `type`, with its scope.

    Returns:
        Whether it has.
    """
    cls = name.rpartition('.')[2]
    return any(
        _class_name(hook.get('type')) == cls for hook in cfg.get('custom_hooks') or []
    )


def _class_name(kind: Any) -> str:
    """Of a config's `type`: a class, or its name with a scope or without."""
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def build_runner(cfg: Config) -> Runner:
    """Builds mmengine's runner, or the one that `runner_type` names.

    Args:
        cfg: The config.

    Returns:
        The runner.
    """
    join_processes(cfg)
    guard_loading(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def positive(text: str) -> int:
    """Read a count; argparse names the argument if it is none.

    Args:
        text: What the user wrote.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: It is not a whole number of 1 or more.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'expected a whole number of 1 or more, got {text!r}'
        )
    return int(text)


def refuse_to_overwrite(dst: str, src: str) -> None:
    """Refuses to write a file over the one that it is made from.

    Args:
        dst: The file to write.
        src: The file that is read.

    Raises:
        InputError: They are the same.
    """
    if os.path.realpath(dst) == os.path.realpath(src):
        raise InputError(
            f'{dst} is read and cannot be written over: give another name.'
        )


def run(main: Callable[[], None]) -> None:
    """Runs a tool; an error of its user ends it without a traceback.

    Args:
        main: The tool.
    """
    try:
        main()
        leave_processes()
    except InputError as error:
        # A data worker's error comes with the worker's traceback before it.
        text = str(error).rpartition(f'{type(error).__name__}: ')[-1]
        sys.exit(f'\nerror: {text}')
    except (
        FileExistsError,
        NotADirectoryError,
        IsADirectoryError,
        PermissionError,
    ) as error:
        sys.exit(f'\nerror: {error}')
    except (TypeError, KeyError, ValueError) as error:
        if not _is_wrong_config(error):
            raise
        sys.exit(f'\nerror in the config: {error}')


def _is_wrong_config(error: Exception) -> bool:
    """Whether mmengine could not build what the config asks for.

    It raises in the builder itself for an unknown `type` or keyword; a value
    that one of our constructors refuses raises in that constructor.
    """
    frames = [
        (frame.f_globals.get('__name__', ''), frame.f_code.co_name)
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    builder = ('mmengine.registry.build_functions', 'build_from_cfg')
    ours = frames[-1][0].startswith('mmadaptor.')
    return frames[-1] == builder or (ours and builder in frames)
