# SPDX-License-Identifier: Apache-2.0
"""Jobs of several processes, also on machines without an accelerator."""

import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, init_dist
from mmengine.registry import MODEL_WRAPPERS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmadaptor.errors import InputError
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.registry import in_scope

# The environment variables of each launcher's processes; the last is the number
# of a process on its machine.
OMPI = 'OMPI_COMM_WORLD_'
VARIABLES = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID'),
    mpi=(f'{OMPI}RANK', f'{OMPI}SIZE', 'MASTER_ADDR', f'{OMPI}LOCAL_RANK'),
)
HOW_TO_START = dict(
    pytorch='tools/dist_train.sh or torchrun',
    slurm='tools/slurm_train.sh or srun',
    mpi='mpirun, with MASTER_ADDR=HOST',
)


def check_launcher(launcher: str) -> None:
    """Check that a job was started by what its `--launcher` names.

    Raises:
        InputError: The launcher's variables are missing, or torchrun started
            several processes and `launcher` is `'none'`: each process would run
            the whole job and overwrite the files of the others.
    """
    if launcher == 'none':
        started = int(os.environ.get('WORLD_SIZE', 1))
        if started > 1 and 'RANK' in os.environ:
            raise InputError(
                f'torchrun started {started} processes (WORLD_SIZE), but '
                '--launcher is none: use --launcher pytorch.'
            )
        return
    missing = [name for name in VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher}: the environment lacks '
            f'{", ".join(missing)}. Start the job by {HOW_TO_START[launcher]}, '
            'or omit --launcher to use one process.'
        )


def join_on_cpu(launcher: str, settings: Mapping[str, Any]) -> None:
    """Join the processes of a job on CPUs, for which mmengine needs a GPU."""
    joined = launcher == 'none' or torch.distributed.is_initialized()
    if joined or get_device() != 'cpu':
        return
    check_launcher(launcher)
    with _no_gpu_chosen(launcher):
        init_dist(launcher, **{**settings, 'backend': 'gloo'})


@contextmanager
def _no_gpu_chosen(launcher: str) -> Iterator[None]:
    """Make mmengine call `torch.cuda.set_device(-1)`, which does nothing."""
    name = VARIABLES[launcher][-1]
    local = os.environ[name]
    os.environ[name] = '-1'
    try:
        yield
    finally:
        os.environ[name] = os.environ['LOCAL_RANK'] = local


def find_unread_outputs(cfg: Config, model: nn.Module) -> None:
    """Let DDP expect parameters without gradients where a config does not say.

    A backbone of ours has a norm for each output, and many heads do not read all
    outputs: with the default of False, DDP would end in the second iteration. A model
    of other backbones keeps mmengine's default.
    """
    ours = [m for m in model.modules() if isinstance(m, AdaptableBackbone)]
    if any(len(m.out_indices) > 1 for m in ours):
        cfg.setdefault('find_unused_parameters', True)
        # torch's note of a model whose heads do read all of them.
        warnings.filterwarnings('ignore', 'find_unused_parameters=True was specified')


def wrapper_for_cpu(cfg: Mapping, wrapper: dict | None) -> dict:
    """Return the config of a model wrapper that asks for no device."""
    wrapper = wrapper or dict(
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    kind = wrapper.get('type', 'MMDistributedDataParallel')
    is_ddp = issubclass(in_scope(MODEL_WRAPPERS, kind), DistributedDataParallel)
    devices = {'device_ids': None} if is_ddp else {}
    return {'type': kind, **devices, **wrapper}


def raise_in_all(problem: str) -> None:
    """End all processes of a job by the problem of the main one; empty for none.

    Raises:
        InputError: There is a problem.
    """
    told = [problem]
    broadcast_object_list(told)
    if told[0]:
        raise InputError(told[0])


def leave_processes() -> None:
    """Leave the processes of a finished job.

    If Python ends first, the threads of the process group abort the process.
    The model of the runner holds the group too, and the runner is in reference
    cycles: hence the collection. A job that failed does not call this: the
    group could wait for the others.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()
