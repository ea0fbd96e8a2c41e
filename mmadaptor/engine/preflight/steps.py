# SPDX-License-Identifier: Apache-2.0
"""Steps that all processes of a job take, or none does.

A step may hold collectives, as a loss does that averages over processes. If a process
failed before it, the others would wait there for as long as the job's timeout, and what
went wrong would not be said.
"""

import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size

PATIENCE = 60  # seconds that a process that failed waits for others in a collective
ROUNDS = itertools.count()


class StepError(Exception):
    """A step failed in a process of the job.

    Args:
        cause: The exception of this process; None if it is another one that failed.
        of_memory: Whether memory ran out in a process.
        alone: Whether the others wait for this process in a collective: the job ends.
    """

    def __init__(self, cause: Exception | None, of_memory: bool, alone: bool) -> None:
        super().__init__(str(cause))
        self.cause, self.of_memory, self.alone = cause, of_memory, alone
        self.advice = ''  # the end of the sentence that tells it


def in_all(step: Callable, *args: Any, collective: bool = False) -> Any:
    """Take a step in each process of the job; return the result of this one.

    Args:
        step: What to do.
        args: Its arguments.
        collective: Whether the step may hold collectives, in which the others wait for
            a process that failed.

    Raises:
        StepError: The step failed in this process or in another, in all of them alike.
    """
    try:
        result = step(*args)
    except Exception as error:
        of_memory = isinstance(error, torch.OutOfMemoryError)
        try:
            found = gather([True, of_memory], PATIENCE if collective else None)
        except RuntimeError:
            raise StepError(error, of_memory, alone=True) from error
        raise StepError(
            error, any(memory for _, memory in found), alone=False
        ) from error
    found = gather([False, False])
    if any(failed for failed, _ in found):
        raise StepError(None, any(memory for _, memory in found), alone=False)
    return result


def gather(value: Any, seconds: float | None = None) -> list:
    """Return the values of all processes of the job, in the order of their ranks.

    They go as JSON through the store of the job: a collective would meet those of a
    process that is still in the step. `seconds` defaults to the job's own timeout.

    Raises:
        RuntimeError: A process did not come in time, or has ended.
    """
    if get_world_size() == 1:
        return [value]
    store = torch.distributed.group.WORLD.get_group_store()
    prefix = f'mmadaptor/dry_run/{next(ROUNDS)}'
    store.set(f'{prefix}/{get_rank()}', json.dumps(value))
    keys = [f'{prefix}/{rank}' for rank in range(get_world_size())]
    store.wait(keys, *([timedelta(seconds=seconds)] if seconds else []))
    return [json.loads(store.get(key)) for key in keys]
