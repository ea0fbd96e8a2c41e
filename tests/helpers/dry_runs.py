# SPDX-License-Identifier: Apache-2.0
"""A runner whose training is about to start, and what its dry run says."""

import pytest

from mmadaptor.engine.preflight import dry_run
from mmadaptor.errors import InputError

from .refusals import build


def built(cfg):
    """A runner as it is before its first iteration; its warnings are in `warned`."""
    runner = build(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner._val_loop is not None:
        runner._val_loop = runner.build_val_loop(runner._val_loop)
    runner.model.init_weights()
    runner.warned = []
    runner.logger.warning = runner.warned.append
    return runner


def said(runner):
    """Return the error of a dry run."""
    with pytest.raises(InputError) as error:
        dry_run(runner)
    return str(error.value)
