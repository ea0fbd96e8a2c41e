# SPDX-License-Identifier: Apache-2.0
"""Ops that cannot run where the model will are named before the start."""

import pytest
import torch
from helpers.refusals import build, problems

from mmadaptor.engine import preflight
from mmadaptor.engine.preflight.report import Report
from mmadaptor.models import VMamba
from mmadaptor.ops import _extension

SMALL = dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0)


def test_ops_that_are_not_built(det, monkeypatch):
    det.model.backbone = dict(
        type='mmadaptor.VMamba', arch=SMALL, out_indices=(1, 2, 3)
    )
    monkeypatch.setattr(_extension, 'PROBLEM', 'the ops are not built')
    text = problems(det)
    assert text == 'Training not started: 1 problem found\n  1. the ops are not built'


def test_a_model_without_ours_needs_no_ops(det, monkeypatch):
    monkeypatch.setattr(_extension, 'PROBLEM', 'the ops are not built')
    build(det)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_the_scan_runs_where_the_model_is(device, monkeypatch):
    """`meta` stands for the accelerator; of a message the first line is shown."""
    places = []

    def scan(u, *_):
        places.append(u.device.type)
        raise RuntimeError('built for the CPU only\nand a long trace')

    monkeypatch.setattr(preflight, 'selective_scan', scan)
    model = torch.nn.Sequential(VMamba(SMALL)).to(device)
    preflight._check_ops(model, report := Report())
    assert report.problems == {'built for the CPU only': []}
    assert places == [device]
