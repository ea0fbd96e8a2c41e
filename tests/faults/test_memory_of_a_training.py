# SPDX-License-Identifier: Apache-2.0
"""A training does not grow: a leak of a week's training is one of its iterations."""

import json

from helpers.jobs import TOY, tool, write_config

LONG = """
train_dataloader.update(num_workers=0)
train_cfg = dict(by_epoch=True, max_epochs=380, val_interval=1000)
custom_hooks = [dict(type='MemoryHook'){leak}]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(type='CheckpointHook', interval=1000, max_keep_ckpts=2))
"""
LEAK = ", dict(type='LeakHook')"
LIMIT = 1024  # bytes an iteration


def growth(folder, leak):
    """Returns the bytes that each of the last thousand iterations adds."""
    folder.mkdir()
    text = TOY.format(work_dir=str(folder / 'run')) + LONG.format(leak=leak)
    ended = tool(
        'train', write_config(folder, text), prelude='export MALLOC_ARENA_MAX=1'
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    resident = json.loads((folder / 'run' / 'memory.json').read_text())
    return (resident['1500'] - resident['500']) / 1000


def test_a_thousand_iterations_are_flat(tmp_path):
    assert growth(tmp_path / 'flat', '') < LIMIT


def test_a_leak_is_found(tmp_path):
    assert growth(tmp_path / 'leak', LEAK) > LIMIT
