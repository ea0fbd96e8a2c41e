# SPDX-License-Identifier: Apache-2.0
"""Checks that the compiled ops run where a model of ours will."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.device import get_device

from mmadaptor.checkpoints.pretrained import children
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.ops import selective_scan
from mmadaptor.registry import BACKBONES

from .report import Report

SCOPE = 'mmadaptor.'


def check_ops(model: Any, report: Report, device: str | None = None) -> None:
    """Runs a scan of one step if the model has a backbone of ours.

    Args:
        model: The model's config.
        report: Notes what keeps the ops from running: not built, built for
            another torch, without CUDA, or for another GPU.
        device: Where the model will run; default: an accelerator if any.
    """
    if not any(map(_is_ours, _types(model))):
        return
    one = torch.ones(1, 1, 1)
    try:
        u = one.to(device or get_device())
        selective_scan(u, u, u[0], u, u).cpu()
    except RuntimeError as error:
        report.problem(str(error).split('\n')[0])


def _types(node: Any) -> Iterator[Any]:
    """What a config builds, by name or by class."""
    if isinstance(node, dict):
        yield node.get('type')
    for _, value in children(node):
        yield from _types(value)


def _is_ours(kind: Any) -> bool:
    if isinstance(kind, str):
        kind = BACKBONES.module_dict.get(kind.removeprefix(SCOPE))
    return isinstance(kind, type) and issubclass(kind, AdaptableBackbone)
