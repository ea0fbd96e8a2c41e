# SPDX-License-Identifier: Apache-2.0
"""Run the tools of the toolboxes with the embedded configs, on a few images."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
import torch

ROOT = pathlib.Path(__file__).parents[2]
TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')
CONFIGS = dict(
    mmdet='mask_rcnn_mamba_adaptor_b0_shapes',
    mmseg='upernet_mamba_adaptor_b0_shapes',
    mmpretrain='mamba_adaptor_b0_shapes',
)
# 16 images are 4 iterations per epoch. A checkpoint is saved after each epoch.
SHORT = """
_base_ = {base!r}
custom_imports = dict(
    imports=['mmadaptor', 'mmadaptor.engine', 'helpers.toy'])
train_dataloader = dict(batch_size=4, num_workers=2)
default_hooks = dict(logger=dict(interval=1))
"""
BY_EPOCH = """
train_cfg = dict(max_epochs=3, val_interval=3)
param_scheduler = [dict(type='LinearLR', start_factor=.1, by_epoch=False, end=12)]
"""
# As in the configs of ADE20K: iteration-based, with an infinite sampler.
BY_ITERATION = """
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=12, val_interval=12)
param_scheduler = [dict(type='LinearLR', start_factor=.1, by_epoch=False, end=12)]
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler'))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False, interval=1),
    checkpoint=dict(by_epoch=False, interval=4))
log_processor = dict(by_epoch=False)
"""


def write_config(folder, toolbox, name, *lines, loop=BY_EPOCH):
    """Write a config that inherits from an embedded one, and return its path."""
    base = str(ROOT / 'configs' / f'{CONFIGS[toolbox]}.py')
    path = pathlib.Path(folder, f'{name}.py')
    text = SHORT.format(base=base)
    if loop is BY_ITERATION:
        text = text.replace('default_hooks = dict(logger=dict(interval=1))\n', '')
        loop = loop.replace('train_dataloader = dict(', 'train_dataloader.update(')
    path.write_text('\n'.join([text + loop, *lines]) + '\n')
    return path


def tools_of(toolbox):
    """Return the folder of the tools that a toolbox installs."""
    spec = importlib.util.find_spec(toolbox)
    if spec is None:
        pytest.skip(f'{toolbox} is not installed')
    return pathlib.Path(spec.origin).parent / '.mim' / 'tools'


def start(command, folder, prelude=''):
    """Start a command in a new process group."""
    command = list(map(str, command))
    if prelude:
        command = ['bash', '-c', f'{prelude}; exec "$@"', 'bash', *command]
    path = os.pathsep.join(map(str, (ROOT, ROOT / 'tests')))
    return subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
    )


def run(toolbox, tool, folder, *arguments, fails=False, **settings):
    """Run a tool of a toolbox and return its output.

    Args:
        toolbox: Name of the toolbox.
        tool: Name of the tool.
        folder: Working directory.
        arguments: Command-line arguments.
        fails: Whether the tool must fail, or the exit code that it must have.
        settings: Further arguments of `start`.
    """
    process = start(
        [sys.executable, tools_of(toolbox) / f'{tool}.py', *arguments],
        folder,
        **settings,
    )
    output, _ = process.communicate(timeout=300)
    expected = (
        process.returncode == int(fails)
        if type(fails) is int
        else (bool(process.returncode) == fails)
    )
    assert expected, (process.returncode, output[-4000:])
    return output


def load(path):
    """Load a trusted checkpoint, with all of its objects."""
    return torch.load(path, weights_only=False)


def assert_same_state(got, expected):
    """Assert that two checkpoints have bit-equal weights and optimizer states."""
    got, expected = load(got), load(expected)
    assert got['meta']['iter'] == expected['meta']['iter']
    torch.testing.assert_close(
        got['state_dict'], expected['state_dict'], rtol=0, atol=0
    )
    torch.testing.assert_close(
        got['optimizer']['state'], expected['optimizer']['state'], rtol=0, atol=0
    )


class Planted:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)
