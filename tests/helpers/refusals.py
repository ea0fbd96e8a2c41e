# SPDX-License-Identifier: Apache-2.0
"""What `mmadaptor.Runner` says of a config before anything long starts."""

import copy
import json
import tempfile

import pytest
from mmengine.config import Config

from mmadaptor.engine import Runner
from mmadaptor.errors import InputError


def build(cfg, job='train'):
    """Builds the runner and its loop, after the preflight checks of the job."""
    cfg = Config(copy.deepcopy(cfg.to_dict()), filename=cfg.filename)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        cfg.work_dir = cfg.experiment_name = folder  # a name of its own
        patch.setattr(Runner, '_log_env', lambda *_: None)  # it asks compilers
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
    """Returns the report of what prevents the job."""
    with pytest.raises(InputError) as error:
        build(cfg, job)
    return str(error.value)


def edit(path, change):
    """Changes the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
