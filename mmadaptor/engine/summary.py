# SPDX-License-Identifier: Apache-2.0
"""What a training ends with: its result, its files and the next command."""

import os
import shlex

from mmengine.dist import master_only
from mmengine.logging import MessageHub
from mmengine.runner import Runner


def last_metrics(messages: MessageHub) -> dict[str, float]:
    """Return the metrics of the last validation by name."""
    return {
        name.removeprefix('val/'): float(history.current())
        for name, history in messages.log_scalars.items()
        if name.startswith('val/') and not name.endswith('time')
    }


@master_only
def log_summary(runner: Runner) -> None:
    """Log the last metrics, the checkpoints, the log folder and how to go on."""
    infos, metrics = runner.message_hub.runtime_info, last_metrics(runner.message_hub)
    values = ', '.join(
        f'{name} {value:.4g}'
        for name, value in metrics.items()
        # Those of COCO are followed by variants, such as bbox_mAP_50.
        if not any(name.startswith(f'{other}_') for other in metrics)
    )
    last = _shown(infos.get('last_ckpt'))
    best = [_shown(infos[key]) for key in infos if key.startswith('best_ckpt')]
    best = list(filter(None, best))
    lines = {
        'Last validation': values,
        'Last checkpoint': last,
        'Best checkpoint': ', '.join(best),
        'Logs': _shown(runner.log_dir),
        'Next': _next_command(runner, best[0] if best else last),
    }
    text = '\n'.join(f'  {name}: {line}' for name, line in lines.items() if line)
    runner.logger.info(f'Training finished.\n{text}')


def _next_command(runner: Runner, checkpoint: str) -> str:
    """Return the command that uses a checkpoint, by the config that the run leaves."""
    name = os.path.basename(runner.cfg.filename or f'{runner.timestamp}.py')
    config = os.path.join(runner.work_dir, name)
    if not checkpoint or not os.path.isfile(config):
        return ''
    images = runner._test_loop is None  # nothing to test on
    tool = 'tools/image_demo.py IMAGES' if images else 'tools/test.py'
    return f'python {tool} {shlex.join([_shown(config), checkpoint])}'


def _shown(path: str | None) -> str:
    """Return a local path as it is from here; empty for none."""
    if not path or '://' in path:
        return path or ''
    return os.path.relpath(path)
