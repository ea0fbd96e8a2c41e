# SPDX-License-Identifier: Apache-2.0
"""Jobs of several processes, also where there is no accelerator."""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist
from mmengine.registry import MODEL_WRAPPERS
from torch.nn.parallel import DistributedDataParallel

from mmadaptor.errors import InputError

# What each launcher tells the processes that it starts; the last is a
# process's number on its machine.
TOLD = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID'),
    mpi=(
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'MASTER_ADDR',
        'OMPI_COMM_WORLD_LOCAL_RANK',
    ),
)
HOW_TO_START = dict(
    pytorch='tools/dist_train.sh or torchrun',
    slurm='tools/slurm_train.sh or srun',
    mpi='mpirun, with MASTER_ADDR=HOST',
)


def check_launcher(launcher: str) -> None:
    """Checks that a job was started by what its `--launcher` names.

    Args:
        launcher: `'none'`, `'pytorch'`, `'slurm'` or `'mpi'`.

    Raises:
        InputError: The launcher's variables are missing, or torchrun started
            several processes and `launcher` is `'none'`: each would do the
            whole job and write over the others' files.
    """
    if launcher == 'none':
        started = int(os.environ.get('WORLD_SIZE', 1))
        if started > 1 and 'RANK' in os.environ:
            raise InputError(
                f'torchrun started {started} processes (WORLD_SIZE), but '
                '--launcher is none: say --launcher pytorch.'
            )
        return
    missing = [name for name in TOLD[launcher] if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher}: the environment lacks '
            f'{", ".join(missing)}. Start the job by {HOW_TO_START[launcher]}, '
            'or leave --launcher out for one process.'
        )


def join_processes(cfg: Config) -> None:
    """Joins the processes of a job where mmengine's runner cannot.

    On accelerators the runner does it. On CPUs its launchers would choose a
    GPU first, and its model wrapper would ask for one: the process group is
    gloo's, whatever `env_cfg.dist_cfg.backend` says, and the wrapper gets no
    device.

    Args:
        cfg: The config, whose model wrapper is changed.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or get_device() != 'cpu':
        return
    if not torch.distributed.is_initialized():
        settings = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
        with _no_gpu_chosen(launcher):
            init_dist(launcher, **{**settings, 'backend': 'gloo'})
    # Strategies have a wrapper of their own.
    if 'strategy' in cfg:
        return
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper = cfg.get('model_wrapper_cfg') or wrapper
    if _takes_device_ids(wrapper):
        wrapper = {'device_ids': None, **wrapper}
    cfg.model_wrapper_cfg = wrapper


def leave_processes() -> None:
    """Leaves the processes of a job that is done.

    The group's threads drop tensors when they come to it, and abort the process
    if Python is ending by then. They end with the group, which the runner's
    model holds too, and the runner is in cycles: hence the collection. A job
    that failed does not come here: the group could wait for the others.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()


def _takes_device_ids(wrapper: Mapping) -> bool:
    kind = wrapper.get('type', 'MMDistributedDataParallel')
    kind = MODEL_WRAPPERS.get(kind) if isinstance(kind, str) else kind
    return issubclass(kind, DistributedDataParallel)


@contextmanager
def _no_gpu_chosen(launcher: str) -> Iterator[None]:
    """Has `torch.cuda.set_device` called with -1, which does nothing."""
    name = TOLD[launcher][-1]
    local = os.environ[name]
    os.environ[name] = '-1'
    try:
        yield
    finally:
        os.environ[name] = os.environ['LOCAL_RANK'] = local
