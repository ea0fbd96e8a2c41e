# SPDX-License-Identifier: Apache-2.0
"""The report of `mmadaptor.Runner` on a config, before the training starts."""

import copy
import json
import tempfile

import pytest
from mmengine.config import Config

from mmadaptor.engine import Runner
from mmadaptor.errors import InputError


def build(cfg, job='train'):
    """Run the preflight checks of a job, and build the runner and its loop."""
    cfg = Config(copy.deepcopy(cfg.to_dict()), filename=cfg.filename)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        cfg.work_dir = cfg.experiment_name = folder  # a unique name
        if cfg.get('visualizer'):  # else later tests would draw into the folder
            cfg.visualizer.name = folder
        runner = Runner.from_cfg(cfg)
        runner.notes = []
        patch.setattr(
            'mmadaptor.engine.preflight.print_log',
            lambda text, *_: runner.notes.append(text),
        )
        if job == 'train':
            runner._train_loop = runner.build_train_loop(runner._train_loop)
        else:
            runner._test_loop = runner.build_test_loop(runner._test_loop)
    return runner


def problems(cfg, job='train'):
    """Return the error message of the preflight checks."""
    with pytest.raises(InputError) as error:
        build(cfg, job)
    return str(error.value)


def edit(path, change):
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
