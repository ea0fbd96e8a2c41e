"""Checks that the compiled ops run where a model of ours will."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.device import get_device

from mmadaptor.ops import selective_scan

from .report import Report

OURS = 'mmadaptor.'


def check_ops(model: Any, report: Report, device: str | None = None) -> None:
    """Runs a scan of one step if the model has a part of ours.

    Args:
        model: The model's config.
        report: Notes what keeps the ops from running: not built, built for
            another torch, without CUDA, or for another GPU.
        device: Where the model will run; default: an accelerator if any.
    """
    if not any(name.startswith(OURS) for name in _types(model)):
        return
    one = torch.ones(1, 1, 1)
    try:
        u = one.to(device or get_device())
        selective_scan(u, u, u[0], u, u).cpu()
    except RuntimeError as error:
        report.problem(str(error).split('\n')[0])


def _types(node: Any) -> Iterator[str]:
    """The names of all classes that a config builds."""
    if isinstance(node, dict):
        name = node.get('type')
        if isinstance(name, str):
            yield name
        elif name is not None:
            yield f'{name.__module__}.{name.__qualname__}'
        node = node.values()
    elif not isinstance(node, list | tuple):
        return
    for value in node:
        yield from _types(value)
