# SPDX-License-Identifier: Apache-2.0
"""Measure what find_unused_parameters=True adds to a training step.

Usage: torchrun --nproc_per_node 2 -m benchmarks.unused_parameters CONFIG [--steps 20]
"""

import argparse
import copy
import time
from statistics import median

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.model import MMDistributedDataParallel

from mmadaptor.arguments import positive
from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    load_config,
    run,
)

WARM_UP = 4  # steps


def seconds(model: MMDistributedDataParallel, batch: dict) -> float:
    """Return the time of a forward and a backward pass of all processes."""
    model.zero_grad()
    barrier()
    start = time.perf_counter()
    data = model.module.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**data, mode='loss')
    model.module.parse_losses(losses)[0].backward()
    barrier()
    return time.perf_counter() - start


def main() -> None:
    """Take steps with and without it in turn, on copies of the model."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config')
    parser.add_argument('--steps', type=positive, default=20, help='default: 20')
    add_common_arguments(parser)
    parser.set_defaults(launcher='pytorch')
    args = parser.parse_args()
    runner = build_runner(load_config(args))
    batch = next(iter(runner.build_dataloader(runner._train_dataloader)))
    devices = dict(device_ids=None) if next(runner.model.parameters()).is_cpu else {}
    models = [
        MMDistributedDataParallel(
            copy.deepcopy(runner.model.module), find_unused_parameters=find, **devices
        )
        for find in (False, True)
    ]
    torch.manual_seed(0)
    rows = []
    for i in range(WARM_UP + args.steps):
        order = (False, True) if i % 2 else (True, False)
        row = {find: seconds(models[find], batch) for find in order}
        rows.append((row[False], row[True]))
    without, ratios = zip(*((a, b / a) for a, b in rows[WARM_UP:]), strict=True)
    if is_main_process():
        print(
            f'{args.config}: a step takes {median(without) * 1e3:.0f} ms, with '
            f'find_unused_parameters=True {median(ratios):.3f} times that '
            f'(quartiles {sorted(ratios)[len(ratios) // 4]:.3f} to '
            f'{sorted(ratios)[-1 - len(ratios) // 4]:.3f})'
        )


if __name__ == '__main__':
    run(main)
