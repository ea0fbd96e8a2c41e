# SPDX-License-Identifier: Apache-2.0
"""Tests import their neighbors (`cases`, `test_vmamba`, ...) by name."""

import functools
import importlib
import importlib.util
import os
import pathlib
import sys
import types

import pytest

HERE = pathlib.Path(__file__).parent
# In several processes these start first, the longest at the head, so that none
# is left alone with one of them at the end.
LONGEST = (
    'faults/test_resume.py',
    'acceptance/test_refusals.py',
    'ops/test_cuda_emulation.py',
    'tools/test_export.py',
    'models/test_compile.py',
    'test_end_to_end.py',
    'security/test_hostile_checkpoints.py',
    'ops/test_cuda_compiles.py',
    'checkpoints/test_integrity.py',
    'tools/test_distributed.py',
    'tools/test_train.py',
    'export/test_sizes.py',
    'configs/test_configs.py',
    'engine/preflight/test_steps.py',
    'tools/test_model_zoo.py',
    'configs/test_booster_configs.py',
)

FOLDERS = ('ops', 'models', 'models/backbones', 'configs', 'engine/preflight')
for folder in FOLDERS:
    sys.path.insert(0, str(HERE / folder))

# Read as torch is imported, here and in the processes that tests start: more
# threads than cores wait for each other most of the time.
if 'PYTEST_XDIST_WORKER' in os.environ:
    cores = len(os.sched_getaffinity(0))
    workers = int(os.environ['PYTEST_XDIST_WORKER_COUNT'])
    os.environ.setdefault('OMP_NUM_THREADS', str(max(cores // workers, 1)))

# mmengine imports yapf, which writes a cache at the first import after its installation;
# of several processes that do it at once, one may read half of it.
elif importlib.util.find_spec('yapf') is not None:
    importlib.import_module('yapf')

# The CUDA kernels on an emulated device, in place of the CPU's own (see
# ops/test_cuda_emulation.py).
if 'EMULATION_LIBRARY' in os.environ:
    import torch

    import mmadaptor.ops  # noqa: F401  the kernels that are loaded last replace others

    torch.ops.load_library(os.environ['EMULATION_LIBRARY'])


@pytest.fixture(autouse=True, scope='session')
def quick_mmengine():
    """Leave out what takes a second of each tiny training, and tests nothing.

    mmengine formats configs by yapf, collects garbage after each dataset, and asks
    compilers for their versions.
    """
    if importlib.util.find_spec('mmengine') is None:
        yield
        return
    from mmengine.dataset import base_dataset
    from mmengine.runner import runner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, 1))
        patch.setattr(base_dataset, 'gc', types.SimpleNamespace(collect=lambda: 0))
        patch.setattr(runner, 'collect_env', functools.cache(runner.collect_env))
        yield


def pytest_collection_modifyitems(items):
    if 'PYTEST_XDIST_WORKER' in os.environ:
        order = {HERE / name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.path, len(order)))
