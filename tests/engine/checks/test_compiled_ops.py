# SPDX-License-Identifier: Apache-2.0
"""Ops that cannot run where the model will are named before the start."""

import pytest
from helpers.refusals import problems

from mmadaptor.engine.checks import compiled_ops
from mmadaptor.engine.checks.report import Report
from mmadaptor.models import VMamba
from mmadaptor.ops import _extension


def ours(det, type='mmadaptor.VMamba'):
    det.model.backbone = dict(type=type, arch='tiny')
    return det


@pytest.mark.parametrize('scope', ['mmadaptor.', ''])
def test_ops_that_are_not_built(scope, det, monkeypatch):
    monkeypatch.setattr(_extension, 'PROBLEM', 'the ops are not built')
    ours(det, f'{scope}VMamba')
    assert 'Nothing was started. 1 to mend:\n  1. the ops are not built' in (
        problems(det)
    )
    compiled_ops.check_ops(dict(parts=[dict(type=VMamba)]), report := Report())
    assert report.others == ['the ops are not built']


def test_a_model_without_ours_needs_no_ops(det, monkeypatch):
    monkeypatch.setattr(_extension, 'PROBLEM', 'the ops are not built')
    det.model.neck = dict(type='mmadaptor.SimpleFeaturePyramid')
    det.model.others = [dict(type=3), dict(type=[]), dict(type=len)]
    compiled_ops.check_ops(det.model, report := Report())
    assert not report.others


@pytest.mark.parametrize('device, place', [(None, 'meta'), ('cpu', 'cpu')])
def test_the_scan_runs_where_the_model_will(device, place, monkeypatch):
    """`meta` stands for the accelerator; of a message the first line is shown."""
    places = []

    def scan(u, *_):
        places.append(u.device.type)
        raise RuntimeError('built for the CPU alone\nand a long trace')

    monkeypatch.setattr(compiled_ops, 'selective_scan', scan)
    monkeypatch.setattr(compiled_ops, 'get_device', lambda: 'meta')
    compiled_ops.check_ops(dict(type='mmadaptor.Vim'), report := Report(), device)
    assert report.others == ['built for the CPU alone']
    assert places == [place]
