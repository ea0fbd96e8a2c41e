# SPDX-License-Identifier: Apache-2.0
"""Importing a backbone brings nothing of the engine; a config brings all of it."""

import subprocess
import sys

import mmadaptor
from mmadaptor.engine import Runner
from mmadaptor.registry import RUNNERS

BACKBONE = """
import sys
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner.checkpoint import CheckpointLoader

loaders, hooks = dict(CheckpointLoader._schemes), dict(HOOKS.module_dict)
import mmadaptor.models

for name in ('matplotlib', 'mmadaptor.engine', 'mmdet', 'mmseg', 'mmpretrain'):
    assert name not in sys.modules, name
assert dict(CheckpointLoader._schemes) == loaders
new = {cls.__module__ for name, cls in HOOKS.module_dict.items() if name not in hooks}
assert not any(module.startswith('mmadaptor') for module in new), new

# A config that names it, without any import.
assert RUNNERS.get('mmadaptor.Runner').__module__ == 'mmadaptor.engine.runner'
assert CheckpointLoader._schemes[''].__module__ == 'mmadaptor.checkpoints.loading'
assert 'matplotlib' not in sys.modules
"""


def test_a_backbone_needs_no_engine():
    result = subprocess.run(
        [sys.executable, '-c', BACKBONE], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_the_runner_by_both_of_its_names():
    assert mmadaptor.Runner is Runner is RUNNERS.get('mmadaptor.Runner')
    assert not hasattr(mmadaptor, 'runner')
